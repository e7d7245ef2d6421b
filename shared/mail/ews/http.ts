/**
 * HTTP to an Exchange server: one POST at a time on connections that are proven and logged in, its answer read as it comes. A
 * password is shown at most once for a request, and redirects are never followed.
 */
import { type ClientRequest, type IncomingHttpHeaders, type IncomingMessage, request } from "node:http";
import { Problem } from "../../contract/problem.ts";
import { patiently } from "../patience.ts";
import { within } from "../../time.ts";
import { problemOf } from "../problems.ts";
import { answerFrom } from "./answer.ts";
import type { Cookies } from "./cookies.ts";
import type { Line, Lines, Scheme, Use } from "./lines.ts";
import { ntlmAnswer, ntlmChallenge, ntlmGreeting } from "./ntlm.ts";
import { loginProblem, methodProblem } from "./refusals.ts";
import type { Version } from "./service.ts";

/** `chunks` must be read to their end, or `chunks.return()` cuts the connection. */
export type EwsResponse = { status: number; headers: IncomingHttpHeaders; chunks: AsyncIterableIterator<Buffer> };

export type EwsOrder = {
  url: string;
  method?: "GET";
  /** What a late answer is called. */
  what?: string;
  body: string | Buffer;
  headers?: Record<string, string>;
  /** How long the answer may pause; where it is given the request hangs, and has a connection of its own. */
  idleMs?: number;
  /** Reads the answer at the reader's pace, so it takes no turn from the account's other requests. */
  flowing?: boolean;
  /**
   * Awaited when all but the last byte is on its way: until it resolves the server cannot have taken the request, afterwards only
   * its answer tells. Such a request has a fresh connection, and is never repeated.
   */
  beforeEnd?: () => Promise<void>;
  /** How long the server may be silent before it answers; eight times that in all. */
  answerMs?: number;
};

export interface EwsHttp {
  /** Resolves with the head of the answer, whatever its status but 401: a refused login is a Problem. */
  post(order: EwsOrder, signal: AbortSignal): Promise<EwsResponse>;
}

/** Who logs in: a password is shown as `scheme` says, or as the server asks for it, NTLM before basic. Nobody is told a 401. */
export type Login =
  | { user: string; pass: string; scheme?: Scheme | undefined }
  | { token: (signal: AbortSignal) => Promise<string>; refused: () => void }
  | "nobody";

/** What the requests of one account share: connections by server, cookies that lead to a mailbox's own server, the schema spoken. */
export type Account = {
  readonly key: string;
  linesTo: (url: URL) => Lines;
  cookies: Cookies;
  command: number;
  version: Version;
};

type Part = {
  method?: string;
  url: URL;
  headers: Record<string, string>;
  body: string | Buffer;
  beforeEnd?: () => Promise<void>;
};
type Attempt = { order: EwsOrder; url: URL; line: Line; lines: Lines; signal: AbortSignal };

/** An answer may begin late where the server has a long list to make. */
const ANSWER = 4;
const CAP = 8;
const MOST_DRAINED = 256 * 1024;

/** The server ended a connection after saying how it wants to be logged in to; the request itself was not sent. */
class Closed extends Error {}

/** HTTP for one login over an account's connections; light enough for a thousand mailboxes of one account. */
export function ewsHttp(account: Account, login: Login): EwsHttp {
  async function post(order: EwsOrder, signal: AbortSignal): Promise<EwsResponse> {
    const url = new URL(order.url);
    const lines = account.linesTo(url);
    const first = await lines.take(useOf(order), signal);
    const kept = first.wire.used;
    try {
      return await attempted({ order, url, line: first, lines, signal });
    } catch (error) {
      first.release(false);
      signal.throwIfAborted();
      const again = error instanceof Closed || (kept && isCut(error) && !order.beforeEnd);
      if (!again) throw problemOf(error, { step: "command" });
    }
    // The server closed a connection just as it was used again: nothing was answered, and nothing was taken.
    const second = await lines.take("fresh", signal);
    try {
      return await attempted({ order, url, line: second, lines, signal });
    } catch (error) {
      second.release(false);
      signal.throwIfAborted();
      throw problemOf(error, { step: "command" });
    }
  }

  async function attempted(attempt: Attempt): Promise<EwsResponse> {
    const { order, url, line, signal } = attempt;
    const anchor = order.headers?.["X-AnchorMailbox"] ?? "";
    const shown = await authorization(attempt);
    const cookie = account.cookies.header(url, anchor);
    const headers = { ...order.headers, ...shown, ...(cookie !== undefined && { cookie }) };
    const { body, beforeEnd, method } = order;
    const message = await exchanged(attempt, {
      url,
      headers,
      body,
      ...(method && { method }),
      ...(beforeEnd && { beforeEnd }),
    });
    account.cookies.keep(url, anchor, message.headers["set-cookie"]);
    if (login === "nobody" || message.statusCode !== 401) {
      line.wire.authenticated ||= isNtlm(shown);
      return answerFrom(message, { idleMs: order.idleMs ?? ANSWER * account.command, signal, line });
    }
    if (line.wire.authenticated && shown.authorization === undefined) {
      // The server forgot whose connection this is; the password has not been shown yet.
      line.wire.authenticated = false;
      await drained(message, account.command, signal);
      return attempted(attempt);
    }
    // Whatever becomes of the rest of the answer: a refused password must never look like something to try again.
    message.destroy();
    if ("token" in login) login.refused();
    throw loginProblem(message.headers, "token" in login ? "token" : "password");
  }

  /** The Authorization header that a request needs on this connection; NTLM asks for a challenge first, with nothing to lose. */
  async function authorization(attempt: Attempt): Promise<{ authorization?: string }> {
    const { url, line, lines, signal } = attempt;
    if (login === "nobody") return {};
    if ("token" in login) return { authorization: `Bearer ${await login.token(signal)}` };
    if (line.wire.authenticated) return {};
    const { user, pass, scheme } = login;
    const basic = `Basic ${Buffer.from(`${user}:${pass}`).toString("base64")}`;
    if ((scheme ?? lines.scheme) === "basic") return { authorization: basic };
    const message = await exchanged(attempt, { url, headers: { authorization: ntlmGreeting() }, body: "" });
    await drained(message, account.command, signal);
    const offered = message.headers["www-authenticate"];
    const challenge = ntlmChallenge(offered);
    if (challenge !== undefined) {
      lines.scheme = "ntlm";
      return { authorization: ntlmAnswer(challenge, user, pass) };
    }
    if (message.statusCode !== 401) return {};
    if (scheme === "ntlm" || !/\bBasic\b/i.test(offered ?? "")) throw methodProblem(scheme, message.headers);
    lines.scheme = "basic";
    if (message.headers.connection?.toLowerCase() === "close") throw new Closed();
    return { authorization: basic };
  }

  async function exchanged({ order, line, signal }: Attempt, part: Part): Promise<IncomingMessage> {
    const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
    const asked = request(optionsFor(part, line), resolve);
    asked.on("error", reject);
    const stop = () => {
      asked.destroy();
      reject(signal.reason);
    };
    signal.addEventListener("abort", stop, { once: true });
    const quietMs = order.answerMs ?? ANSWER * account.command;
    const received = () => line.wire.socket.bytesRead + line.wire.socket.bytesWritten;
    line.wire.used = true;
    try {
      signal.throwIfAborted();
      written(asked, part).catch(reject);
      return await patiently({ quietMs, capMs: CAP * quietMs, received }, order.what ?? "Exchange", promise, (late) =>
        asked.destroy(late),
      );
    } finally {
      signal.removeEventListener("abort", stop);
    }
  }

  return { post };
}

function useOf({ idleMs, beforeEnd, flowing }: EwsOrder): Use {
  if (idleMs !== undefined || beforeEnd) return "fresh";
  return flowing ? "flow" : "short";
}

function optionsFor({ method = "POST", url, headers, body }: Part, { wire: { agent } }: Line) {
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
      "content-length": Buffer.byteLength(body),
      connection: "keep-alive",
    },
  };
}

async function written(asked: ClientRequest, { body, beforeEnd }: Part): Promise<void> {
  if (!beforeEnd) {
    asked.end(body);
    return;
  }
  const bytes = Buffer.from(body);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  asked.write(bytes.subarray(0, -1), (error) => (error ? reject(error) : resolve()));
  await promise;
  await beforeEnd();
  asked.end(bytes.subarray(-1));
}

/** Reads an answer that nobody wants, so that its connection can be used again. */
async function drained(message: IncomingMessage, ms: number, signal: AbortSignal): Promise<void> {
  let bytes = 0;
  const work = async () => {
    for await (const chunk of message) {
      bytes += Buffer.from(chunk).length;
      if (bytes > MOST_DRAINED) throw new Problem("protocol", "The server's refusal does not end");
    }
  };
  await within(ms, "Reading the server's refusal", work(), signal);
}

function isNtlm({ authorization }: { authorization?: string }): boolean {
  return authorization?.startsWith("NTLM ") ?? false;
}

function isCut(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : "";
  return code === "ECONNRESET" || code === "EPIPE" || (error instanceof Error && error.message === "socket hang up");
}
