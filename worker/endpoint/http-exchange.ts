/** One HTTP request on the wire and the head of its answer: ends by an answer, a fault, the deadline or the signal, never later. */
import type { ClientRequest, IncomingMessage } from "node:http";
import { Problem } from "../../shared/contract/problem.ts";
import type { Answer } from "./outcome.ts";

/** What ends an exchange early: `signal` is the shutdown, `late` aborts at the deadline. */
export type Until = { signal: AbortSignal; late: AbortSignal };

/** No connection came about; another address may do. `cause` is the fault itself. */
export class Unconnected extends Error {
  constructor(cause: unknown) {
    super("not connected", { cause });
    this.name = "Unconnected";
  }
}

/** Read of a refusal for its words. */
const REASON_BYTES = 4096;
/** Read of what follows the status, so that the connection can be used again; what takes longer or has more is cut off. */
const DRAIN = { bytes: 65_536, ms: 5_000 };
/** The end of an accepting answer is awaited this long, so that the next message finds the connection free. */
const SETTLE_MS = 100;

/**
 * Sends the body and resolves with the answer. A 2xx counts once its head is there, whatever becomes of its body: the endpoint
 * has decided, and the same webhook-id would only ask it again. Of other answers up to 4 KB of the body are awaited.
 * Rejects with the fault, `Unconnected` before there is a connection (after `connectMs` at the latest), or the signal's reason.
 */
export function exchange(
  request: ClientRequest,
  body: Uint8Array | string,
  connectMs: number | undefined,
  until: Until,
): Promise<Answer> {
  const { promise, resolve, reject } = Promise.withResolvers<Answer>();
  let [connected, answering] = [false, false];
  const fail = (error: unknown) => {
    reject(connected || until.signal.aborted ? error : new Unconnected(error));
    request.destroy();
  };
  const stop = () => fail(until.signal.reason);
  const late = () => fail(new Problem("timeout", "the endpoint did not answer in time"));
  const unreachable = () => fail(new Problem("connect", "the endpoint does not take connections in time"));
  const timer = connectMs === undefined ? undefined : setTimeout(unreachable, connectMs);
  const onConnect = () => {
    connected = true;
    clearTimeout(timer);
  };
  request.once("socket", (socket) => (socket.connecting ? socket.once("connect", onConnect) : onConnect()));
  // From here on the answer decides: whatever fails later only ends it.
  request.once("response", (response) => {
    answering = true;
    resolve(readAnswer(request, response, until));
  });
  request.once("close", () => {
    if (!answering) reject(new Error("socket hang up"));
  });
  // Stays for good: a request that was given up may fail once more.
  request.on("error", fail);
  until.signal.addEventListener("abort", stop);
  until.late.addEventListener("abort", late);
  if (until.signal.aborted) stop();
  else if (until.late.aborted) late();
  else request.end(body);
  return promise.finally(() => {
    clearTimeout(timer);
    until.signal.removeEventListener("abort", stop);
    until.late.removeEventListener("abort", late);
  });
}

async function readAnswer(request: ClientRequest, response: IncomingMessage, until: Until): Promise<Answer> {
  const status = response.statusCode ?? 0;
  const accepted = status >= 200 && status < 300;
  const chunks: Buffer[] = [];
  let length = 0;
  const { promise: read, resolve: done } = Promise.withResolvers<void>();
  const cut = () => request.destroy();
  const timer = setTimeout(cut, DRAIN.ms).unref();
  response.on("data", (chunk: Buffer) => {
    length += chunk.length;
    if (!accepted && length - chunk.length < REASON_BYTES) chunks.push(chunk);
    if (length >= REASON_BYTES) done();
    if (length > DRAIN.bytes) cut();
  });
  response.on("error", () => done());
  response.once("close", () => {
    clearTimeout(timer);
    done();
  });
  const settled = accepted ? setTimeout(done, SETTLE_MS) : undefined;
  await unlessEnded(read, until);
  clearTimeout(settled);
  const text = Buffer.concat(chunks).subarray(0, REASON_BYTES).toString("utf8");
  return { status, headers: response.headers, text };
}

async function unlessEnded(read: Promise<void>, { signal, late }: Until): Promise<void> {
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const onEnd = () => end();
  for (const each of [signal, late]) each.addEventListener("abort", onEnd);
  await Promise.race([read, ended]);
  for (const each of [signal, late]) each.removeEventListener("abort", onEnd);
}
