/** Asks an endpoint for the head of its answer, so that no program takes the request for a delivery. */
import type { Socket } from "node:net";
import { Problem } from "./contract/problem.ts";
import { type Egress, portOfUrl } from "./egress.ts";
import { upgradeToTls } from "./mail/net/tls.ts";

const MAX_HEAD_BYTES = 16 * 1024;
/**
 * Many servers answer an expectation that they do not know with 417 by themselves (RFC 9110 section 10.1.1). Then the program behind
 * the server, which may take every request for a delivery, does not get this one.
 */
const EXPECTATION = "expect: nothing-delivered";

/** What an endpoint answered. `date` is its clock, `certificateUntil` when its certificate expires; null if unknown. */
export type EndpointHead = { status: number; date: Date | null; certificateUntil: Date | null };

/**
 * The head of the answer to HEAD. The words in it may be anything. Connecting and TLS take half of `ms` each at most; the
 * caller bounds the wait for the answer.
 */
export async function askHead(egress: Egress, url: URL, ms: number, signal: AbortSignal): Promise<EndpointHead> {
  const isTls = url.protocol === "https:";
  const raw = await egress.connect({ host: url.hostname, port: portOfUrl(url), timeoutMs: ms / 2 }, signal);
  raw.on("error", () => undefined);
  const close = () => raw.destroy();
  signal.addEventListener("abort", close, { once: true });
  try {
    const tls = isTls ? await upgradeToTls(raw, { host: url.hostname }, ms / 2, signal) : undefined;
    const socket = tls ?? raw;
    const head = [`HEAD ${url.pathname}${url.search} HTTP/1.1`, `host: ${url.host}`, EXPECTATION, "connection: close"];
    socket.write(`${head.join("\r\n")}\r\n\r\n`);
    return { ...(await readHead(socket)), certificateUntil: toDate(tls?.getPeerCertificate().valid_to) };
  } finally {
    signal.removeEventListener("abort", close);
    raw.destroy();
  }
}

/** After the status line the rest of the head may take this long. It is not needed. */
const REST_MS = 500;

function readHead(socket: Socket): Promise<Pick<EndpointHead, "status" | "date">> {
  const { promise, resolve, reject } = Promise.withResolvers<Pick<EndpointHead, "status" | "date">>();
  let text = "";
  let timer: NodeJS.Timeout | undefined;
  const finish = () => {
    clearTimeout(timer);
    const status = /^HTTP\/\d[.\d]{0,3} ([1-5]\d\d)[ \r\n]/.exec(text)?.[1];
    if (status !== undefined)
      return resolve({ status: Number(status), date: toDate(/^date:(.*)$/im.exec(text)?.[1]?.trim()) });
    const why = text ? "It does not answer in HTTP" : "It closed the connection without an answer";
    return reject(new Problem("endpoint", why));
  };
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    if (text.includes("\r\n\r\n") || text.length > MAX_HEAD_BYTES) finish();
    else if (/^HTTP\/\S+ \d{3}/.test(text)) timer ??= setTimeout(finish, REST_MS);
  });
  for (const event of ["end", "close", "error"]) socket.on(event, finish);
  return promise;
}

function toDate(text: string | undefined): Date | null {
  const ms = Date.parse(text ?? "");
  return Number.isNaN(ms) ? null : new Date(ms);
}
