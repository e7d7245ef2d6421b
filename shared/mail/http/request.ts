/**
 * One HTTP request on an open connection. It writes the whole request, or waits before the last byte until the caller
 * agrees.
 */
import { type ClientRequest, type IncomingMessage, request } from "node:http";
import { Problem } from "../../contract/problem.ts";
import { withTimeout } from "../../time.ts";
import { limitInterimAnswers } from "../interim-answers.ts";
import { withIdleTimeout } from "../net/idle-timeout.ts";
import { type RequestBody, bodyByteLength, bodyChunks } from "./request-body.ts";
import type { Connection } from "./connection-pool.ts";
import type { HttpTap, RequestRecord } from "./record/tap.ts";

/** `beforeEnd` is awaited before the last byte leaves. */
export type HttpRequest = {
  method?: string | undefined;
  url: URL;
  headers: Record<string, string>;
  body: RequestBody;
  beforeEnd?: (() => Promise<void>) | undefined;
  /** The record of the mailbox for which this is requested. */
  tap?: HttpTap | undefined;
  isAddressSecret?: boolean | undefined;
  isStream?: boolean | undefined;
};

/** The head of an answer. `record` is for its body. */
export type Answer = { message: IncomingMessage; record: RequestRecord | undefined };

/** The name of the request, and how long the server may be silent before it answers (eight times that in all). */
export type ResponseTimeout = { what: string; quietMs: number };

const METHOD = "POST";
const TOTAL_FACTOR = 8;
const MAX_DRAINED_BYTES = 256 * 1024;

/** Resolves with the head of the answer; the caller reads the body. Throws `timeout`, or the connection's error. */
export async function sendRequest(
  connection: Connection,
  httpRequest: HttpRequest,
  timeout: ResponseTimeout,
  signal: AbortSignal,
): Promise<Answer> {
  signal.throwIfAborted();
  const record = httpRequest.tap?.begin({ ...httpRequest, method: httpRequest.method ?? METHOD });
  try {
    const message = await receiveHead(connection, httpRequest, timeout, signal);
    record?.answered(message);
    return { message, record };
  } catch (error) {
    record?.failed(error);
    throw error;
  }
}

async function receiveHead(
  connection: Connection,
  httpRequest: HttpRequest,
  { what, quietMs }: ResponseTimeout,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const clientRequest = request(requestOptions(httpRequest, connection), resolve);
  clientRequest.on("error", reject);
  limitInterimAnswers(clientRequest);
  const stop = () => {
    clientRequest.destroy();
    reject(signal.reason);
  };
  signal.addEventListener("abort", stop, { once: true });
  const received = () => connection.socket.bytesRead + connection.socket.bytesWritten;
  connection.used = true;
  writeBody(clientRequest, httpRequest).catch(reject);
  try {
    return await withIdleTimeout({ idleMs: quietMs, maxMs: TOTAL_FACTOR * quietMs, received }, what, promise, (late) =>
      clientRequest.destroy(late),
    );
  } finally {
    signal.removeEventListener("abort", stop);
  }
}

function requestOptions({ method = METHOD, url, headers, body }: HttpRequest, { agent }: Connection) {
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
      "content-length": bodyByteLength(body),
      connection: "keep-alive",
    },
  };
}

async function writeBody(clientRequest: ClientRequest, { body, beforeEnd }: HttpRequest): Promise<void> {
  if (!beforeEnd && typeof body === "string") {
    clientRequest.end(body);
    return;
  }
  let last: Buffer = Buffer.alloc(0);
  for (const piece of bodyChunks(body)) {
    if (last.length > 0) await writeChunk(clientRequest, last);
    last = piece;
  }
  await writeChunk(clientRequest, last.subarray(0, -1));
  await beforeEnd?.();
  clientRequest.end(last.subarray(-1));
}

/** Resolves once the bytes are written. */
function writeChunk(clientRequest: ClientRequest, bytes: Buffer): Promise<void> {
  return new Promise((resolve, reject) => {
    clientRequest.write(bytes, (error) => (error ? reject(error) : resolve()));
  });
}

/** Reads an answer to its end, so that its connection can be used again. */
export async function drain(message: IncomingMessage, ms: number, signal: AbortSignal): Promise<void> {
  let bytes = 0;
  const work = async () => {
    for await (const chunk of message) {
      bytes += Buffer.from(chunk).length;
      if (bytes > MAX_DRAINED_BYTES) throw new Problem("protocol", "The server's refusal does not end");
    }
  };
  await withTimeout(ms, "Reading the server's refusal", work(), signal);
}
