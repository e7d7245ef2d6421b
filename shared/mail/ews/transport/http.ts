/**
 * HTTP to an Exchange server: one request at a time on authenticated connections. The answer is read as it arrives. A
 * password is sent at most once for a request, and redirects are never followed. Own code, because the transport of
 * ews-javascript-api has no read timeout, never settles a refused stream, closes streams that share it, and loses how
 * long a busy server asks to wait.
 */
import type { IncomingMessage } from "node:http";
import { toProblem } from "../../problems.ts";
import { toHttpResponse, type HttpResponse } from "../../http/response.ts";
import type { HttpTap, RequestRecord } from "../../http/record/tap.ts";
import type { RequestBody } from "../../http/request-body.ts";
import type { CookieJar } from "./cookies.ts";
import type { ConnectionPool, ConnectionUse, Connection } from "../../http/connection-pool.ts";
import {
  authorize,
  ConnectionClosed,
  type Login,
  authenticatesConnection,
  type AuthorizationHeader,
} from "./authentication.ts";
import { noLoginOfferedProblem, RefusedToken, refusedPasswordProblem } from "./auth-errors.ts";
import { drain, sendRequest } from "../../http/request.ts";
import type { Version } from "../soap/versions.ts";

export type EwsRequest = {
  url: string;
  method?: "GET";
  /** The name of the request in a timeout. */
  what?: string;
  body: RequestBody;
  headers?: Record<string, string>;
  /** How long the answer may pause. Such a request hangs and has its own connection. */
  idleMs?: number;
  /** How large the answer may be; 64 MB by default, and without a limit if `idleMs` is set. */
  maxBytes?: number;
  /** The answer is read at the reader's speed, so the request takes no place of the login's short requests. */
  flowing?: boolean;
  /**
   * Awaited before the last byte leaves. Until it resolves the server cannot have the whole request; afterwards only
   * its answer tells what happened. Such a request has a new connection and is never repeated.
   */
  beforeEnd?: () => Promise<void>;
  /** How long the server may be silent before it answers; eight times that for the whole answer. */
  answerMs?: number;
};

export interface EwsHttp {
  /** Resolves with the head of the answer, whatever its status, except 401: a refused login is a Problem. */
  post(request: EwsRequest, signal: AbortSignal): Promise<HttpResponse>;
}

/**
 * What all requests of one login share: connections by server, cookies that route to a mailbox's own server, the schema
 * version.
 */
export type EwsAccount = {
  readonly key: string;
  connectionPool: (url: URL) => ConnectionPool;
  cookies: CookieJar;
  command: number;
  version: Version;
  /** The product and its number, as the server said them last. */
  serverVersion?: string | undefined;
};

const MAX_ANSWER_BYTES = 64 * 1024 * 1024;
/** An answer may begin late, because the server may have to compile a long list. */
const RESPONSE_FACTOR = 4;
/**
 * With basic authentication every request carries the password. While the password is known to be good, a slow answer
 * delays the account's other requests by at most this time.
 */
const OVERLAP_MS = 500;

type Caller = { account: EwsAccount; login: Login; tap: HttpTap | undefined; signal: AbortSignal };
type RequestContext = Caller & { request: EwsRequest; url: URL; pool: ConnectionPool };

/** HTTP for one login over its connections. It is cheap enough for a thousand mailboxes. `tap` is the record of the mailbox. */
export function ewsHttp(account: EwsAccount, login: Login, tap?: HttpTap): EwsHttp {
  return {
    async post(request, signal) {
      const url = new URL(request.url);
      const pool = account.connectionPool(url);
      return sendWithToken({ account, login, tap, signal, request, url, pool });
    },
  };
}

/** A provider may end a token before its time. A new one is tried once, before anything fails. */
async function sendWithToken(context: RequestContext): Promise<HttpResponse> {
  const { login, signal } = context;
  try {
    return await sendOnce(context);
  } catch (error) {
    if (!(error instanceof RefusedToken) || login === "nobody" || !("token" in login)) throw error;
    if ((await login.token(signal)) === error.token) throw error;
  }
  return sendOnce(context);
}

async function sendOnce(context: RequestContext): Promise<HttpResponse> {
  const response = await sendOnConnection(context, connectionUse(context.request));
  // The server closed a connection just when it was used again. It answered nothing and accepted nothing.
  const retried = response ?? (await sendOnConnection(context, "fresh"));
  if (!retried) throw toProblem(new ConnectionClosed("The server closes every connection"), { step: "login" });
  return retried;
}

/**
 * The answer on a connection for this use. Undefined if a kept connection was dead; then the request may be sent again.
 */
async function sendOnConnection(context: RequestContext, use: ConnectionUse): Promise<HttpResponse | undefined> {
  const { pool, request, signal } = context;
  const lease = await pool.acquire(use, signal);
  const { connection } = lease;
  const reused = connection.used;
  try {
    return await sendAuthenticated(context, connection, lease.release);
  } catch (error) {
    lease.release(false);
    signal.throwIfAborted();
    if (error instanceof ConnectionClosed || (reused && isConnectionReset(error) && !request.beforeEnd))
      return undefined;
    throw toProblem(error, { step: "command" });
  }
}

async function sendAuthenticated(
  context: RequestContext,
  connection: Connection,
  release: (again: boolean) => void,
): Promise<HttpResponse> {
  const { account, login, request, signal } = context;
  const { response, record, authorization } = await sendThroughLoginGate(context, connection);
  if (login === "nobody" || response.statusCode !== 401) {
    connection.authenticated ||= authenticatesConnection(authorization);
    const idleMs = request.idleMs ?? RESPONSE_FACTOR * account.command;
    const maxBytes = request.maxBytes ?? (request.idleMs === undefined ? MAX_ANSWER_BYTES : Number.POSITIVE_INFINITY);
    return toHttpResponse(response, { idleMs, maxBytes, signal, release, record });
  }
  if (connection.authenticated && authorization === undefined) {
    // The server no longer knows who authenticated this connection. This request has not sent the password yet.
    connection.authenticated = false;
    await drain(response, account.command, signal);
    return sendAuthenticated(context, connection, release);
  }
  response.destroy();
  if (!("token" in login)) throw noLoginOfferedProblem(response.headers);
  const token = authorization?.slice("Bearer ".length) ?? "";
  login.forgetToken(token);
  throw new RefusedToken(token, response.headers);
}

/** A request in flight, with its answer and the Authorization header that it carried. */
type Exchange = { response: IncomingMessage; record: RequestRecord | undefined; authorization: AuthorizationHeader };

/**
 * A request that may carry the password goes through the login gate, so that a wrong one is sent once, however many
 * requests there are at the same time.
 */
async function sendThroughLoginGate(context: RequestContext, connection: Connection): Promise<Exchange> {
  const { login, url, pool, signal } = context;
  if (login === "nobody" || !("password" in login) || connection.authenticated || !login.gate)
    return sendWithLogin(context, connection);
  const { user, password, scheme } = login;
  const port = url.port || (url.protocol === "https:" ? 443 : 80);
  const options = (scheme ?? pool.scheme) === "basic" ? { overlapMs: OVERLAP_MS } : {};
  const send = async () => {
    const value = await sendWithLogin(context, connection);
    return { value, accepted: value.authorization !== undefined && value.response.statusCode === 200 };
  };
  return login.gate.show({ server: `${url.hostname}:${port}`, user, password }, send, options, signal);
}

/**
 * Sends the request with the authentication that the server wants. Throws `auth` only for a 401 after a password was
 * sent.
 */
async function sendWithLogin(context: RequestContext, connection: Connection): Promise<Exchange> {
  const { account, login, request, url, pool, tap, signal } = context;
  const timeout = { what: request.what ?? "Exchange", quietMs: request.answerMs ?? RESPONSE_FACTOR * account.command };
  const negotiate = async (negotiateHeader: string) => {
    const handshake = { url, headers: { authorization: negotiateHeader }, body: "", tap };
    const { message: response } = await sendRequest(connection, handshake, timeout, signal);
    await drain(response, account.command, signal);
    return response;
  };
  const authorization = await authorize(login, { lines: pool, wire: connection, greet: negotiate }, signal);
  const anchor = request.headers?.["X-AnchorMailbox"] ?? "";
  const { body, method, beforeEnd } = request;
  const isStream = request.idleMs !== undefined;
  const headers = buildHeaders(context, authorization, anchor);
  const sent = { url, headers, body, method, beforeEnd, tap, isStream };
  const { message: response, record } = await sendRequest(connection, sent, timeout, signal);
  account.cookies.store(url, anchor, response.headers["set-cookie"]);
  const passwordShown = login !== "nobody" && "password" in login && authorization !== undefined;
  if (!passwordShown || response.statusCode !== 401) return { response, record, authorization };
  // A refused password must not look like a failure that is tried again, whatever happens to the rest of the answer.
  response.destroy();
  throw refusedPasswordProblem(response.headers);
}

function buildHeaders(
  { account, request, url }: RequestContext,
  authorizationHeader: AuthorizationHeader,
  anchor: string,
): Record<string, string> {
  const cookie = account.cookies.header(url, anchor);
  return {
    ...request.headers,
    ...(authorizationHeader !== undefined && { authorization: authorizationHeader }),
    ...(cookie !== undefined && { cookie }),
  };
}

function connectionUse({ idleMs, beforeEnd, flowing }: EwsRequest): ConnectionUse {
  if (idleMs !== undefined || beforeEnd) return "fresh";
  return flowing ? "flow" : "short";
}

function isConnectionReset(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : "";
  return code === "ECONNRESET" || code === "EPIPE" || (error instanceof Error && error.message === "socket hang up");
}
