/**
 * HTTP to an Exchange server: one request at a time on connections that are proven and logged in, its answer read as it comes. A
 * password is shown at most once for a request, and redirects are never followed.
 */
import type { IncomingHttpHeaders } from "node:http";
import { within } from "../../../time.ts";
import { problemOf } from "../../problems.ts";
import { answerFrom } from "../answer.ts";
import type { Body } from "../body.ts";
import type { Cookies } from "./cookies.ts";
import type { Lines, Use, Wire } from "../lines.ts";
import { authorization, Closed, type Login, logsInConnection, type Shown } from "./authentication.ts";
import { loginProblem } from "./auth-errors.ts";
import { drained, exchanged } from "../request.ts";
import type { Version } from "../client/envelope.ts";

/** `chunks` must be read to their end, or `chunks.return()` cuts the connection. */
export type EwsResponse = { status: number; headers: IncomingHttpHeaders; chunks: AsyncIterableIterator<Buffer> };

export type EwsOrder = {
  url: string;
  method?: "GET";
  /** What a late answer is called. */
  what?: string;
  body: Body;
  headers?: Record<string, string>;
  /** How long the answer may pause; where it is given the request hangs, and has a connection of its own. */
  idleMs?: number;
  /** Reads the answer at the reader's pace, so it takes no turn from the account's short requests. */
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

/** What the requests of one account share: connections by server, cookies that lead to a mailbox's own server, the schema spoken. */
export type Account = {
  readonly key: string;
  linesTo: (url: URL) => Lines;
  cookies: Cookies;
  command: number;
  version: Version;
};

/** An answer may begin late where the server has a long list to make. */
const ANSWER = 4;
/** The first login of an account may take as long as the slowest answer. */
const CAP = 8;
/** Two hundred mailboxes that share a login must not lock it by two hundred tries of an old password. */
const REFUSED_MS = 5 * 60 * 1000;

type Caller = { account: Account; login: Login; signal: AbortSignal };
type Ask = Caller & { order: EwsOrder; url: URL; lines: Lines };

/** HTTP for one login over an account's connections; light enough for a thousand mailboxes of one account. */
export function ewsHttp(account: Account, login: Login): EwsHttp {
  return {
    async post(order, signal) {
      const url = new URL(order.url);
      const lines = account.linesTo(url);
      const ask: Ask = { account, login, signal, order, url, lines };
      notRefused(ask);
      const answer = await onLine(ask, useOf(order));
      // The server closed a connection just as it was used again: nothing was answered, and nothing was taken.
      const second = answer ?? (await onLine(ask, "fresh"));
      if (!second) throw problemOf(new Closed("The server closes every connection"), { step: "login" });
      return second;
    },
  };
}

/** The answer on a connection for this use; undefined where a kept one turned out to be dead, and the request may be sent again. */
async function onLine(ask: Ask, use: Use): Promise<EwsResponse | undefined> {
  const { lines, order, signal } = ask;
  const line = await lines.take(use, signal);
  const { wire } = line;
  const kept = wire.used;
  try {
    return await inTurn(ask, () => answered(ask, wire, line.release));
  } catch (error) {
    line.release(false);
    signal.throwIfAborted();
    if (error instanceof Closed || (kept && isCut(error) && !order.beforeEnd)) return undefined;
    throw problemOf(error, { step: "command" });
  }
}

/** The first request that shows a password goes alone: a wrong one would else be shown by as many as start at once. */
async function inTurn<T>(ask: Ask, work: () => Promise<T>): Promise<T> {
  const { account, lines, login, order, signal } = ask;
  const { first } = lines;
  const showing = login !== "nobody" && "pass" in login && !order.beforeEnd;
  if (showing && !first) {
    const { promise, resolve } = Promise.withResolvers<void>();
    lines.first = promise;
    return work().finally(resolve);
  }
  if (showing && first) await within(CAP * ANSWER * account.command, "The account's first login", first, signal);
  // It may have been refused since this request began to wait.
  notRefused(ask);
  return work();
}

function notRefused({ login, lines: { refused } }: Ask): void {
  if (login !== "nobody" && refused && performance.now() < refused.until) throw refused.problem;
}

async function answered(ask: Ask, wire: Wire, release: (again: boolean) => void): Promise<EwsResponse> {
  const { account, login, order, url, lines, signal } = ask;
  const patience = { what: order.what ?? "Exchange", quietMs: order.answerMs ?? ANSWER * account.command };
  const greet = async (greeting: string) => {
    const part = { url, headers: { authorization: greeting }, body: "" };
    const message = await exchanged(wire, part, patience, signal);
    await drained(message, account.command, signal);
    return message;
  };
  const shown = await authorization(login, { lines, wire, greet }, signal);
  const anchor = order.headers?.["X-AnchorMailbox"] ?? "";
  const { body, method, beforeEnd } = order;
  const headers = headersOf(ask, shown, anchor);
  const message = await exchanged(wire, { url, headers, body, method, beforeEnd }, patience, signal);
  account.cookies.keep(url, anchor, message.headers["set-cookie"]);
  if (login === "nobody" || message.statusCode !== 401) {
    wire.authenticated ||= logsInConnection(shown);
    const idleMs = order.idleMs ?? ANSWER * account.command;
    return answerFrom(message, { idleMs, signal, release });
  }
  if (wire.authenticated && shown === undefined) {
    // The server forgot whose connection this is; the password has not been shown yet.
    wire.authenticated = false;
    await drained(message, account.command, signal);
    return answered(ask, wire, release);
  }
  // Whatever becomes of the rest of the answer: a refused password must never look like something to try again.
  message.destroy();
  const problem = loginProblem(message.headers, "token" in login ? "token" : "password");
  if ("token" in login) login.refused();
  else lines.refused = { problem, until: performance.now() + REFUSED_MS, mailbox: login.mailbox };
  throw problem;
}

function headersOf({ account, order, url }: Ask, shown: Shown, anchor: string): Record<string, string> {
  const cookie = account.cookies.header(url, anchor);
  return {
    ...order.headers,
    ...(shown !== undefined && { authorization: shown }),
    ...(cookie !== undefined && { cookie }),
  };
}

function useOf({ idleMs, beforeEnd, flowing }: EwsOrder): Use {
  if (idleMs !== undefined || beforeEnd) return "fresh";
  return flowing ? "flow" : "short";
}

function isCut(error: unknown): boolean {
  const code = error instanceof Error && "code" in error ? error.code : "";
  return code === "ECONNRESET" || code === "EPIPE" || (error instanceof Error && error.message === "socket hang up");
}
