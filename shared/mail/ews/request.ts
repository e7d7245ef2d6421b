/** One HTTP request on a connection that is there: written whole, or up to its last byte until the sender says so, and patient for the answer. */
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { Problem } from "../../contract/problem.ts";
import { within } from "../../time.ts";
import { patiently } from "../net/idle-timeout.ts";
import { type Body, bytesOf, piecesOf } from "./body.ts";
import type { Wire } from "./lines.ts";

/** `beforeEnd` is awaited when all but the last byte is on its way. */
export type Part = {
  method?: string | undefined;
  url: URL;
  headers: Record<string, string>;
  body: Body;
  beforeEnd?: (() => Promise<void>) | undefined;
};

/** What is asked, and how long the server may be silent before it answers (eight times that in all). */
export type Patience = { what: string; quietMs: number };

const CAP = 8;
const MOST_DRAINED = 256 * 1024;

/** Resolves with the head of the answer; the body is the caller's to read. Throws `timeout`, or the connection's error. */
export async function exchanged(
  wire: Wire,
  part: Part,
  { what, quietMs }: Patience,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  signal.throwIfAborted();
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const asked = request(optionsFor(part, wire), resolve);
  asked.on("error", reject);
  const stop = () => {
    asked.destroy();
    reject(signal.reason);
  };
  signal.addEventListener("abort", stop, { once: true });
  const received = () => wire.socket.bytesRead + wire.socket.bytesWritten;
  wire.used = true;
  written(asked, part).catch(reject);
  try {
    return await patiently({ quietMs, capMs: CAP * quietMs, received }, what, promise, (late) => asked.destroy(late));
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function optionsFor({ method = "POST", url, headers, body }: Part, { agent }: Wire) {
  return {
    agent,
    method,
    host: url.hostname,
    port: url.port || (url.protocol === "https:" ? 443 : 80),
    path: `${url.pathname}${url.search}`,
    headers: {
      "content-type": "text/xml; charset=utf-8",
      accept: "text/xml",
      "user-agent": "EmailListener/0.1",
      ...headers,
      host: url.host,
      "content-length": bytesOf(body),
      connection: "keep-alive",
    },
  };
}

async function written(asked: ClientRequest, { body, beforeEnd }: Part): Promise<void> {
  if (!beforeEnd && typeof body === "string") {
    asked.end(body);
    return;
  }
  let last: Buffer = Buffer.alloc(0);
  for (const piece of piecesOf(body)) {
    if (last.length > 0) await passed(asked, last);
    last = piece;
  }
  await passed(asked, last.subarray(0, -1));
  await beforeEnd?.();
  asked.end(last.subarray(-1));
}

/** Resolves once the bytes are on their way. */
function passed(asked: ClientRequest, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    asked.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

/** Reads an answer that nobody wants, so that its connection can be used again. */
export async function drained(message: IncomingMessage, ms: number, signal: AbortSignal): Promise<void> {
  let bytes = 0;
  const work = async () => {
    for await (const chunk of message) {
      bytes += Buffer.from(chunk).length;
      if (bytes > MOST_DRAINED) throw new Problem("protocol", "The server's refusal does not end");
    }
  };
  await within(ms, "Reading the server's refusal", work(), signal);
}
