/** Trying out the endpoint of a mailbox: reached and, over TLS, trusted. No message is posted. */
import type { Socket } from "node:net";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../shared/contract/problem.ts";
import { type Egress, portOfUrl } from "../shared/egress.ts";
import type { PreflightStep } from "../shared/mail/mail.ts";
import { upgradeToTls } from "../shared/mail/net/tls.ts";
import { withTimeout } from "../shared/time.ts";

const STEP_MS = 10_000;
const MAX_HEAD_BYTES = 16 * 1024;
/**
 * Many servers answer an expectation that they do not know with 417 by themselves (RFC 9110 section 10.1.1). Then the program behind
 * the server, which may take every request for a delivery, does not get this one.
 */
const EXPECTATION = "expect: nothing-delivered";

/**
 * Connects as a delivery would and asks for the headers of `deliver.url`. Any HTTP status is an answer, because many endpoints know
 * only POST. 410 says that deliveries will be given up. Throws only when the signal aborts.
 */
export async function probeEndpoint(
  { egress }: { egress: Egress },
  { deliver }: Mailbox,
  signal: AbortSignal,
): Promise<PreflightStep> {
  const startedAt = performance.now();
  const elapsedMs = () => Math.round(performance.now() - startedAt);
  const url = new URL(deliver.url);
  try {
    const status = await withTimeout(STEP_MS, `${url.host}: the answer`, askHead(egress, url, signal), signal);
    if (status === 410) throw new Problem("endpoint_gone", `${url.host} answers 410 Gone: nothing would be delivered`);
    return { name: "deliver", ok: true, ms: elapsedMs(), detail: `${url.host} answers HEAD with HTTP ${status}` };
  } catch (error) {
    signal.throwIfAborted();
    const { message, fix, evidence } = asProblem(error);
    const where = message.includes(url.hostname) ? message : `${url.host}: ${message}`;
    const step = { name: "deliver", ok: false, ms: elapsedMs(), cause: where, fix } as const;
    return evidence === null ? step : { ...step, detail: evidence };
  }
}

/** The status of the answer. The words after it may be anything. */
async function askHead(egress: Egress, url: URL, signal: AbortSignal): Promise<number> {
  const isTls = url.protocol === "https:";
  const raw = await egress.connect({ host: url.hostname, port: portOfUrl(url), timeoutMs: STEP_MS / 2 }, signal);
  raw.on("error", () => undefined);
  try {
    const socket = isTls ? await upgradeToTls(raw, { host: url.hostname }, STEP_MS / 2, signal) : raw;
    const head = [`HEAD ${url.pathname}${url.search} HTTP/1.1`, `host: ${url.host}`, EXPECTATION, "connection: close"];
    socket.write(`${head.join("\r\n")}\r\n\r\n`);
    return await readStatus(socket);
  } finally {
    raw.destroy();
  }
}

function readStatus(socket: Socket): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  let text = "";
  const fail = () =>
    reject(new Problem("endpoint", text ? "It does not answer in HTTP" : "It closed the connection without an answer"));
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
    const status = /^HTTP\/\d[.\d]{0,3} ([1-5]\d\d)[ \r\n]/.exec(text)?.[1];
    if (status !== undefined) resolve(Number(status));
    else if (text.length > MAX_HEAD_BYTES) fail();
  });
  for (const event of ["end", "close", "error"]) socket.on(event, fail);
  return promise;
}
