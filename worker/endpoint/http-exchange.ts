/**
 * One HTTP request and the head of its answer. It ends with an answer, an error, the deadline or the signal, and never
 * later.
 */
import type { ClientRequest, IncomingMessage } from "node:http";
import { Problem } from "../../shared/contract/problem.ts";
import { limitInterimAnswers } from "../../shared/mail/interim-answers.ts";
import { type Body, sendBody } from "./body.ts";
import type { EndpointResponse } from "./outcome.ts";

/** What ends an exchange early: `signal` is the shutdown, `deadline` aborts at the deadline. */
export type Cancellation = { signal: AbortSignal; deadline: AbortSignal };

/** There was no connection, so another address may work. `cause` is the original error. */
export class ConnectError extends Error {
  constructor(cause: unknown) {
    super("not connected", { cause });
    this.name = "Unconnected";
  }
}

/** How much of a refusal's body is read for its words. */
const REASON_BYTES = 4096;
/** How much is read after the status, so that the connection can be used again. A longer or slower body is cut off. */
const DRAIN = { bytes: 65_536, ms: 5_000 };
/** How long it waits for the end of an accepting answer, so that the next message finds the connection free. */
const SETTLE_MS = 100;

/**
 * Sends the body and resolves with the answer. A 2xx counts once its head arrived, whatever happens to its body: the
 * endpoint has decided, and it would only get the same webhook-id again. For other answers it waits for up to 4 KB of
 * the body. Rejects with the error, with `ConnectError` before there is a connection (after `connectMs` at the latest),
 * or with the signal's reason.
 */
export function httpExchange(
  request: ClientRequest,
  body: Body,
  connectMs: number | undefined,
  cancellation: Cancellation,
): Promise<EndpointResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<EndpointResponse>();
  let [connected, responded] = [false, false];
  const read = Promise.withResolvers<void>();
  const fail = (error: unknown) => {
    reject(connected || cancellation.signal.aborted ? error : new ConnectError(error));
    // An answer that has begun is cut off.
    read.resolve();
    request.destroy();
  };
  const onAbort = () => fail(cancellation.signal.reason);
  const onDeadline = () => fail(new Problem("timeout", "the endpoint did not answer in time"));
  const onConnectTimeout = () => fail(new Problem("connect", "the endpoint did not accept a connection in time"));
  const timer = connectMs === undefined ? undefined : setTimeout(onConnectTimeout, connectMs);
  const onConnect = () => {
    connected = true;
    clearTimeout(timer);
  };
  request.once("socket", (socket) => (socket.connecting ? socket.once("connect", onConnect) : onConnect()));
  // From here on the answer decides. A later error only ends the exchange.
  request.once("response", (response) => {
    responded = true;
    resolve(readResponse(request, response, read));
  });
  request.once("close", () => {
    if (!responded) reject(new Error("socket hang up"));
  });
  limitInterimAnswers(request);
  // This listener stays, because a cancelled request may fail once more.
  request.on("error", fail);
  cancellation.signal.addEventListener("abort", onAbort);
  cancellation.deadline.addEventListener("abort", onDeadline);
  if (cancellation.signal.aborted) onAbort();
  else if (cancellation.deadline.aborted) onDeadline();
  else sendBody(request, body).catch(fail);
  return promise.finally(() => {
    clearTimeout(timer);
    cancellation.signal.removeEventListener("abort", onAbort);
    cancellation.deadline.removeEventListener("abort", onDeadline);
  });
}

/** `read` is resolved when enough of the answer came, or by the caller to cut it off. */
async function readResponse(
  request: ClientRequest,
  response: IncomingMessage,
  read: PromiseWithResolvers<void>,
): Promise<EndpointResponse> {
  const status = response.statusCode ?? 0;
  const accepted = status >= 200 && status < 300;
  const chunks: Buffer[] = [];
  let length = 0;
  const done = () => read.resolve();
  const cut = () => request.destroy();
  const timer = setTimeout(cut, DRAIN.ms).unref();
  response.on("data", (chunk: Buffer) => {
    length += chunk.length;
    if (!accepted && length - chunk.length < REASON_BYTES) chunks.push(chunk);
    if (length >= REASON_BYTES) done();
    if (length > DRAIN.bytes) cut();
  });
  response.on("error", done);
  response.once("close", () => {
    clearTimeout(timer);
    done();
  });
  const settleTimer = accepted ? setTimeout(done, SETTLE_MS) : undefined;
  await read.promise;
  clearTimeout(settleTimer);
  const text = Buffer.concat(chunks).subarray(0, REASON_BYTES).toString("utf8");
  return { status, headers: response.headers, text };
}
