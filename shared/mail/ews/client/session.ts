/** One mailbox on its Exchange server: operations of the library and streamed answers, over the account's connections, every failure a Problem. */
import type { ExchangeService, FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Emit } from "../../../telemetry/events.ts";
import type { Tokens } from "../../oauth/tokens.ts";
import type { Body } from "../body.ts";
import { type Exchange, exchange as newExchange } from "../account.ts";
import { type EwsOrder, ewsHttp } from "../transport/http.ts";
import { type EwsLibrary, ewsLibrary } from "./library.ts";
import type { LineDeps } from "../lines.ts";
import { loginOf } from "../transport/authentication.ts";
import { accountKey, placeOf } from "../autodiscover/locate.ts";
import { withoutLogin } from "../transport/auth-errors.ts";
import { asked, streamed, type Talk, talkAs } from "./calls.ts";

/** What an Exchange mailbox needs; `command` in milliseconds. Without `exchange` nothing is shared with other mailboxes. */
export type EwsDeps = LineDeps & { tokens?: Tokens; emit?: Emit; exchange?: Exchange };

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
  raw(what: string, body: Body, signal: AbortSignal, options?: RawOptions): Promise<AsyncIterableIterator<Buffer>>;
  /** A distinguished folder of this mailbox ("inbox", "sentitems", "msgfolderroot", ...), named with its owner where access is by delegation. */
  folder(name: string): FolderId;
  /** Gives up the account's connections, which close after their last user. Never throws. */
  close(): Promise<void>;
}

/** `flowing: false` takes a turn among the account's short requests: for an answer that is read at once, with no other request amid it. */
export type RawOptions = Pick<EwsOrder, "idleMs" | "headers" | "beforeEnd" | "answerMs" | "flowing">;

/** The mailbox's session. Finds its server where need be, and proves nothing else. Throws the Problem of what could not be found or read. */
export async function openEws(deps: EwsDeps, mailbox: MailboxOf<"ews">, signal: AbortSignal): Promise<EwsSession> {
  const library = await ewsLibrary();
  signal.throwIfAborted();
  const exchange = deps.exchange ?? newExchange();
  const login = loginOf(deps, mailbox);
  const found = await placeOf({ ...deps, exchange }, mailbox, login, signal).catch((error: unknown) => {
    throw withoutLogin(error, login.secrets());
  });
  const key = accountKey(exchange, mailbox, new URL(found.place.url).origin);
  const { account, over } = exchange.account(deps, { key, trust: mailbox.receive, mailbox: mailbox.id });
  const talk = talkAs(mailbox, { library, exchange, account, found, login, http: ewsHttp(account, login) });
  return sessionOver(talk, () => {
    talk.open = false;
    over();
  });
}

function sessionOver(talk: Talk, close: () => void): EwsSession {
  const { library, account, found, anchor, access } = talk;
  return {
    library,
    account: account.key,
    url: found.place.url,
    anchor,
    grouping: found.place.grouping,
    get open() {
      return talk.open;
    },
    ask: (what, work, signal) => asked(talk, { what, work }, signal),
    raw: (what, body, signal, options = {}) => streamed(talk, { ...options, what, body }, signal),
    folder(name) {
      const known = Object.entries(library.WellKnownFolderName).find(
        ([key]) => key.toLowerCase() === name.toLowerCase(),
      );
      if (typeof known?.[1] !== "number")
        throw new Problem("folder", `Exchange knows no folder ${name}`, { retry: "never" });
      const owner = access === "delegate" ? new library.Mailbox(anchor) : undefined;
      return owner ? new library.FolderId(known[1], owner) : new library.FolderId(known[1]);
    },
    close() {
      close();
      return Promise.resolve();
    },
  };
}
