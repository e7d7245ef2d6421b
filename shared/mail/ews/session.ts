/** One mailbox on its Exchange server: operations of the library and streamed answers, over the account's connections, every failure a Problem. */
import type { ExchangeService, FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem, type ProblemCode } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";
import type { Emit } from "../../telemetry/events.ts";
import { within } from "../../time.ts";
import type { Tokens } from "../oauth.ts";
import { type Exchange, exchange as newExchange } from "./exchange.ts";
import { type Account, type EwsHttp, type EwsOrder, type EwsResponse, ewsHttp, type Login } from "./http.ts";
import { type EwsLibrary, ewsLibrary } from "./library.ts";
import { whole } from "./answer.ts";
import { accountKey, type Found, placeOf } from "./place.ts";
import { faultIn, libraryProblem, statusProblem } from "./problems.ts";
import { enveloped, serviceOver, VERSIONS } from "./service.ts";

/** What an Exchange mailbox needs; `command` in milliseconds. Without `exchange` nothing is shared with other mailboxes. */
export type EwsDeps = {
  egress: Egress;
  tokens?: Tokens;
  timeouts: { command: number };
  gate?: (host: string, signal: AbortSignal) => Promise<void>;
  emit?: Emit;
  exchange?: Exchange;
};

export interface EwsSession {
  readonly library: EwsLibrary;
  /** Who pays for connections: a login at a server, told apart by its credentials too. Not for people. */
  readonly account: string;
  readonly url: string;
  /** The mailbox whose server is meant by X-AnchorMailbox. */
  readonly anchor: string;
  /** Mailboxes of one account, URL and grouping may share a stream of events; null where nobody told. */
  readonly grouping: string | null;
  readonly open: boolean;
  /**
   * Runs operations of the library. Its own errors become Problems: ErrorServerBusy is `throttled` with the time the server asks for,
   * before which nothing is asked.
   */
  ask<T>(what: string, work: (service: ExchangeService) => Promise<T>, signal: AbortSignal): Promise<T>;
  /**
   * One SOAP request, given as the content of soap:Body; version, impersonation and affinity headers are added. Resolves once a 200
   * begins, else throws its Problem. Errors inside a 200 are the reader's to find.
   */
  raw(what: string, body: string, signal: AbortSignal, options?: RawOptions): Promise<AsyncIterableIterator<Buffer>>;
  /** A distinguished folder of this mailbox ("inbox", "sentitems", "msgfolderroot", ...), named with its owner where access is by delegation. */
  folder(name: string): FolderId;
  /** Gives up the account's connections, which close after their last user. Never throws. */
  close(): Promise<void>;
}

export type RawOptions = Pick<EwsOrder, "idleMs" | "headers" | "beforeEnd" | "answerMs">;

/** The mailbox's session. Finds its server where need be, and proves nothing else. Throws the Problem of what could not be found or read. */
export async function openEws(deps: EwsDeps, mailbox: MailboxOf<"ews">, signal: AbortSignal): Promise<EwsSession> {
  const library = await ewsLibrary();
  signal.throwIfAborted();
  const exchange = deps.exchange ?? newExchange();
  const login = loginOf(deps, mailbox);
  const found = await placeOf({ ...deps, exchange }, mailbox, login, signal);
  const key = accountKey(exchange, mailbox, new URL(found.place.url).origin);
  const { account, over } = exchange.account(deps, { key, trust: mailbox.receive });
  return sessionOver({ library, exchange, account, http: ewsHttp(account, login), found, mailbox, over });
}

type Parts = {
  library: EwsLibrary;
  exchange: Exchange;
  account: Account;
  http: EwsHttp;
  found: Found;
  mailbox: MailboxOf<"ews">;
  over: () => void;
};

/** What an answer of the library may hold, and how many times the deadline of a step all of it may take. */
const MOST_BYTES = 128 * 1024 * 1024;
const MOST_REFUSAL = 256 * 1024;
const WHOLE = 40;
/** After these the session is of no more use: another one may have a new token, or find the mailbox elsewhere. */
const ENDS = new Set<ProblemCode>(["auth", "token", "no_mailbox"]);

function sessionOver(parts: Parts): EwsSession {
  const { library, exchange, account, http, found, mailbox, over } = parts;
  const { place } = found;
  const { access } = mailbox.receive;
  const anchor = mailbox.address;
  const impersonated = access === "impersonate" ? anchor : null;
  const owner = access === "delegate" ? new library.Mailbox(anchor) : undefined;
  const payer = impersonated === null ? account.key : `${account.key} ${anchor}`;
  let open = true;

  /** Every request goes through here: not before the time the server asked for, and what it says is learnt from. */
  async function asked(order: Omit<EwsOrder, "url">, signal: AbortSignal): Promise<EwsResponse> {
    signal.throwIfAborted();
    const until = exchange.busy.until(payer);
    if (until) throw new Problem("throttled", "Exchange asked to slow down", { retry: until });
    const headers = { "X-AnchorMailbox": anchor, ...order.headers };
    const answer = await http.post({ ...order, url: place.url, headers }, signal);
    if (answer.status === 200) return answer;
    const body = await whole(answer.chunks, MOST_REFUSAL);
    throw statusProblem(answer.status, answer.headers, body);
  }

  function learnt(error: unknown): unknown {
    if (!(error instanceof Problem)) return error;
    // A connection or subscription too many says nothing about other requests.
    if (error.code !== "too_many_connections" && error.retry instanceof Date) exchange.busy.note(payer, error.retry);
    if (ENDS.has(error.code) || isElsewhere(error)) open = false;
    return isElsewhere(error) || error.code === "auth" ? found.doubted(error) : error;
  }

  async function attempt<T>(what: string, work: (service: ExchangeService) => Promise<T>, signal: AbortSignal) {
    const seen: { failure?: unknown; backOffMs?: number | null } = {};
    const transport = async (envelope: string): Promise<string> => {
      try {
        const { chunks } = await asked({ what, body: envelope }, signal);
        const text = await within(WHOLE * account.command, what, whole(chunks, MOST_BYTES), signal);
        seen.backOffMs = faultIn(text)?.backOffMs ?? null;
        return text;
      } catch (error) {
        seen.failure = error;
        throw error;
      }
    };
    const service = serviceOver(library, { url: place.url, version: account.version, impersonated, transport });
    try {
      return await work(service);
    } catch (error) {
      signal.throwIfAborted();
      throw seen.failure ?? libraryProblem(library, error, seen.backOffMs ?? null);
    }
  }

  /** Once more with an older version of the schema, where the server knows no newer one. */
  async function versioned<T>(work: () => Promise<T>): Promise<T> {
    const { version } = account;
    try {
      return await work();
    } catch (error) {
      const older = VERSIONS[VERSIONS.indexOf(version) + 1];
      if (!isTooNew(error) || !older) throw learnt(error);
      account.version = older;
    }
    return versioned(work);
  }

  return {
    library,
    account: account.key,
    url: place.url,
    anchor,
    grouping: place.grouping,
    get open() {
      return open;
    },
    ask: (what, work, signal) => versioned(() => attempt(what, work, signal)),
    raw: (what, body, signal, options = {}) =>
      versioned(async () => {
        const envelope = enveloped(body, account.version, impersonated);
        return (await asked({ ...options, what, body: envelope, flowing: true }, signal)).chunks;
      }),
    folder(name) {
      const known = Object.entries(library.WellKnownFolderName).find(
        ([key]) => key.toLowerCase() === name.toLowerCase(),
      );
      if (typeof known?.[1] !== "number")
        throw new Problem("folder", `Exchange knows no folder ${name}`, { retry: "never" });
      return owner ? new library.FolderId(known[1], owner) : new library.FolderId(known[1]);
    },
    close() {
      open = false;
      over();
      return Promise.resolve();
    },
  };
}

function isTooNew(error: unknown): boolean {
  return error instanceof Problem && (error.evidence?.startsWith("ErrorInvalidServerVersion") ?? false);
}

/** True where the server that was asked is not, or no longer, the mailbox's. */
function isElsewhere({ code, evidence }: Problem): boolean {
  return code === "no_mailbox" || /^HTTP (3\d\d|40[45])\b/.test(evidence ?? "");
}

function loginOf({ tokens }: EwsDeps, mailbox: MailboxOf<"ews">): Login {
  const { auth, scheme } = mailbox.receive;
  if ("password" in auth) return { user: auth.user, pass: auth.password.reveal(), scheme };
  return {
    async token(signal) {
      if ("accessToken" in auth) return auth.accessToken.reveal();
      if (!tokens) throw new Problem("token", "OAuth2 is not set up in this process", { retry: "never" });
      return (await tokens.access(mailbox, signal)).reveal();
    },
    refused: () => tokens?.forget(mailbox.id),
  };
}
