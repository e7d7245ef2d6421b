/**
 * One request to Graph: through the mailbox's gate, with its token, over a shared connection, read within bounds. A
 * refused token is replaced once, and a short pause that Graph asks for is waited out. Redirects are never followed.
 */
import { Problem } from "../../../contract/problem.ts";
import { clock, sleep } from "../../../time.ts";
import type { ConnectionPool, ConnectionUse } from "../../http/connection-pool.ts";
import type { HttpTap } from "../../http/record/tap.ts";
import type { RequestBody } from "../../http/request-body.ts";
import { sendRequest } from "../../http/request.ts";
import { type HttpResponse, readText, toHttpResponse } from "../../http/response.ts";
import { excessProblem, sizeText } from "../../net/excess.ts";
import type { Intake } from "../../net/intake.ts";
import { toProblem } from "../../problems.ts";
import { explainToken } from "./claims.ts";
import { GraphRefusal, problemFromAnswer } from "./errors.ts";
import type { Asker } from "./fixes.ts";
import type { RequestGate, RequestKind } from "./gate.ts";

/** `maxBytes` limits the answer. A request that is not `repeatable` goes out once, over a new connection. */
export type GraphRequest = {
  method: "GET" | "POST" | "PATCH" | "DELETE" | "PUT";
  url: URL;
  /** The name of the request in a timeout. */
  what: string;
  kind?: RequestKind;
  headers?: Record<string, string>;
  body?: RequestBody;
  maxBytes: number;
  repeatable: boolean;
  /** Called before the request leaves. */
  onLeave?: () => void;
  /** Whoever knows the address may use it. */
  isAddressSecret?: boolean;
};

export type GraphAnswer = { status: number; headers: HttpResponse["headers"]; bytes: Buffer };

/** How a mailbox asks: with this token, through this gate under this key. */
export type RequestContext = {
  pool: ConnectionPool;
  /** Connections to another server, which Graph named for an upload. */
  acquireFor: (url: URL) => { pool: ConnectionPool; release: () => void };
  gate: RequestGate;
  gateKey: string;
  intake: Intake;
  asker: Asker;
  /** What a token must be for. */
  root: string;
  /** A step's deadline in milliseconds. */
  command: number;
  token: (signal: AbortSignal) => Promise<string>;
  forgetToken: (refused: string) => void;
  /** The record of the mailbox. */
  tap: HttpTap | undefined;
};

/** An answer may begin late, and pause for longer than one step takes. */
const RESPONSE_FACTOR = 4;
const MAX_ERROR_BYTES = 256 * 1024;
/** How often one request is tried while Graph asks for short pauses or has a moment's trouble. */
const MAX_ATTEMPTS = 4;
const TROUBLE_MS = 500;
const TROUBLE = new Set<Problem["code"]>(["unavailable", "connect"]);

/** Resolves with the whole answer if it is 2xx, otherwise throws its Problem. */
export async function request(context: RequestContext, order: GraphRequest, signal: AbortSignal): Promise<GraphAnswer> {
  let refusedToken: string | undefined;
  for (let attempt = 1; ; attempt += 1) {
    const token = await context.token(signal);
    try {
      return await attemptRequest(context, order, token, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Problem)) throw error;
      if (error instanceof GraphRefusal && error.status === 401 && refusedToken === undefined) {
        refusedToken = token;
        context.forgetToken(token);
        if ((await context.token(signal)) === token) throw toTokenProblem(context, error, token);
        continue;
      }
      if (error instanceof GraphRefusal && error.status === 401) throw toTokenProblem(context, error, token);
      if (attempt >= MAX_ATTEMPTS || !(await mayRepeat(context, order, error, { attempt, signal }))) throw error;
    }
  }
}

/** True after the wait that the problem asks for. A pause of the mailbox is waited out at the gate. */
async function mayRepeat(
  { gate, gateKey }: RequestContext,
  { repeatable }: GraphRequest,
  problem: Problem,
  { attempt, signal }: { attempt: number; signal: AbortSignal },
): Promise<boolean> {
  const { code, retry } = problem;
  if (!(problem instanceof GraphRefusal) && (!repeatable || code !== "connect")) return false;
  if (code === "throttled" && retry instanceof Date) {
    const crowded = /MailboxConcurrency/i.test(problem.evidence ?? "");
    gate.pause(gateKey, retry.getTime(), crowded);
    // Graph did nothing, so that even a request that must not be repeated may go out again.
    return true;
  }
  if (!repeatable || !TROUBLE.has(code)) return false;
  const asked = retry instanceof Date ? retry.getTime() - clock.now() : 0;
  if (attempt > 1 || asked > TROUBLE_MS) return false;
  return sleep(TROUBLE_MS, signal);
}

/** A given token cannot be renewed, and a new one that is refused too belongs elsewhere. */
function toTokenProblem({ root }: RequestContext, refusal: GraphRefusal, token: string): Problem {
  const { message, evidence, fix } = refusal;
  const reason = explainToken(token, root);
  const cause = reason === undefined ? message : `${message}. ${reason}`;
  return new Problem("token", cause, { retry: "never", fix, ...(evidence !== null && { evidence }) });
}

async function attemptRequest(
  context: RequestContext,
  order: GraphRequest,
  token: string,
  signal: AbortSignal,
): Promise<GraphAnswer> {
  using _ = await context.gate.enter(context.gateKey, order.kind ?? "short", signal);
  const response = await exchange(context, order, token, signal);
  const { status, headers } = response;
  if (status >= 200 && status < 300) {
    const bytes = await readBounded(response, { maxBytes: order.maxBytes, intake: context.intake });
    return { status, headers, bytes };
  }
  const body = await readText(response.chunks, MAX_ERROR_BYTES);
  throw problemFromAnswer({ status, headers, body }, context.asker, [token]);
}

/** A piece of a file for an upload address. Graph counts it for the mailbox, so it passes the gate. */
export async function putPiece(
  context: RequestContext,
  address: string,
  { bytes, range }: { bytes: Buffer; range: string },
  signal: AbortSignal,
): Promise<void> {
  const url = URL.parse(address);
  if (!url || !/^https?:$/.test(url.protocol) || (url.protocol === "http:" && context.root.startsWith("https:")))
    throw new Problem("protocol", "Microsoft Graph gave no address for an upload that can be used");
  using _ = await context.gate.enter(context.gateKey, "short", signal);
  const { pool, release } = context.acquireFor(url);
  try {
    const headers = { "content-type": "application/octet-stream", "content-range": range };
    const body = { bytes: bytes.length, chunks: () => [bytes] };
    const order = { method: "PUT", url, what: "Uploading a file", headers, body, maxBytes: MAX_ERROR_BYTES } as const;
    const response = await exchange(
      { ...context, pool },
      { ...order, repeatable: false, isAddressSecret: true },
      null,
      signal,
    );
    const answer = await readText(response.chunks, MAX_ERROR_BYTES);
    const { status } = response;
    if (status >= 200 && status < 300) return;
    const secrets = [address, url.search];
    throw problemFromAnswer({ status, headers: response.headers, body: answer }, context.asker, secrets);
  } finally {
    release();
  }
}

/** The head of the answer. A kept connection that was dead is replaced once if the request may be repeated. */
async function exchange(
  { pool, command, tap }: RequestContext,
  order: GraphRequest,
  token: string | null,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const { method, url, body = "", headers = {}, what, repeatable, isAddressSecret } = order;
  const idleMs = RESPONSE_FACTOR * command;
  for (let use: ConnectionUse = repeatable ? "flow" : "fresh"; ; use = "fresh") {
    const lease = await pool.acquire(use, signal);
    const reused = lease.connection.used;
    try {
      const authorization = token === null ? {} : { authorization: `Bearer ${token}` };
      const all = { accept: "application/json", ...headers, ...authorization };
      const sent = { method, url, headers: all, body, tap, isAddressSecret };
      order.onLeave?.();
      const { message, record } = await sendRequest(lease.connection, sent, { what, quietMs: idleMs }, signal);
      return toHttpResponse(message, { idleMs, maxBytes: Infinity, signal, release: lease.release, record });
    } catch (error) {
      lease.release(false);
      signal.throwIfAborted();
      if (!reused || use === "fresh") throw toProblem(error, { step: "command", where: url.host });
    }
  }
}

/** The whole answer. Throws `excess` when it is larger than `maxBytes`, and `connect` when it was cut. */
async function readBounded(
  { chunks }: HttpResponse,
  { maxBytes, intake }: { maxBytes: number; intake: Intake },
): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  let ended: Problem | undefined;
  using share = intake.join((problem) => (ended = problem));
  for await (const chunk of chunks) {
    parts.push(chunk);
    bytes += chunk.length;
    if (bytes > maxBytes) throw excessProblem(`an answer of over ${sizeText(maxBytes)}`);
    await share.hold(bytes);
    if (ended) throw ended;
  }
  return Buffer.concat(parts);
}
