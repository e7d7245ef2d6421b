/**
 * One mailbox on its Exchange server: operations of the library and streamed answers, over the login's connections.
 * Every failure is a Problem.
 */
import type { ExchangeService, FolderId } from "ews-javascript-api";
import type { ServerFacts } from "../../../contract/learned.ts";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Emit } from "../../../telemetry/events.ts";
import type { LoginGate } from "../../net/login-gate.ts";
import type { Tokens } from "../../oauth/tokens.ts";
import { httpTap } from "../../http/record/tap.ts";
import type { RequestBody } from "../../http/request-body.ts";
import { type EwsAccounts, ewsAccounts as newExchange, accountKey } from "../account.ts";
import { type EwsRequest, ewsHttp } from "../transport/http.ts";
import { createIntake, type Intake } from "../../net/intake.ts";
import type { OpenTap } from "../../net/tap.ts";
import { showSoap } from "../soap/shown.ts";
import { type EwsLibrary, loadEwsLibrary } from "./library.ts";
import type { ConnectionPoolDeps } from "../../http/connection-pool.ts";
import { getLogin } from "../transport/authentication.ts";
import { locateServiceUrl } from "../autodiscover/locate.ts";
import { withoutGiven } from "../../../evidence/evidence.ts";
import { callLibrary, postSoap, type CallContext, createCallContext } from "./calls.ts";

/**
 * What an Exchange mailbox needs; `command` in milliseconds. Without `exchange` it shares nothing with other mailboxes.
 */
export type EwsDeps = ConnectionPoolDeps & {
  tokens?: Tokens;
  logins?: LoginGate;
  emit?: Emit;
  exchange?: EwsAccounts;
  openTap?: OpenTap;
  /** What servers may make this process read. Without it a session has one of its own. */
  intake?: Intake;
};

export interface EwsSession {
  readonly library: EwsLibrary;
  readonly intake: Intake;
  /** The key of the login whose connections are used: user, server and credentials. Not for people. */
  readonly accountKey: string;
  readonly url: string;
  /** The mailbox that X-AnchorMailbox names. */
  readonly anchor: string;
  /**
   * Mailboxes with the same login, URL and grouping may share a stream of events. Null if autodiscover did not say it.
   */
  readonly grouping: string | null;
  readonly open: boolean;
  /**
   * Runs operations of the library. Its errors become Problems. ErrorServerBusy becomes `throttled` with the time that
   * the server asks for, and no request goes out before it.
   */
  callLibrary<T>(what: string, work: (service: ExchangeService) => Promise<T>, signal: AbortSignal): Promise<T>;
  /**
   * One SOAP request, given as the content of soap:Body. Version, impersonation and affinity headers are added.
   * Resolves once a 200 begins, otherwise throws its Problem. The reader must find errors inside a 200.
   */
  postSoap(
    what: string,
    body: RequestBody,
    signal: AbortSignal,
    options?: PostSoapOptions,
  ): Promise<AsyncIterableIterator<Buffer>>;
  /**
   * A distinguished folder of this mailbox ("inbox", "sentitems", "msgfolderroot", ...), named with its owner if the
   * access is by delegation.
   */
  folder(name: string): FolderId;
  /** What the server said of itself. */
  describe(): ServerFacts;
  /** Releases the login's connections, which close after their last user. Never throws. */
  close(): Promise<void>;
}

/**
 * `flowing: false` takes one of the login's places for short requests: for an answer that is read at once, without
 * other requests meanwhile.
 */
export type PostSoapOptions = Pick<
  EwsRequest,
  "idleMs" | "headers" | "beforeEnd" | "answerMs" | "flowing" | "maxBytes"
>;

/**
 * The mailbox's session. Finds the server if needed, and proves nothing else. Throws the Problem of what could not be
 * found or read.
 */
export async function openEws(deps: EwsDeps, mailbox: MailboxOf<"ews">, signal: AbortSignal): Promise<EwsSession> {
  const library = await loadEwsLibrary();
  signal.throwIfAborted();
  const exchange = deps.exchange ?? newExchange();
  const login = getLogin(deps, mailbox);
  const tap =
    deps.openTap &&
    httpTap({ openTap: deps.openTap, showBodies: showSoap }, mailbox, "ews", () =>
      // Of a login the user is shown.
      "password" in login ? [login.password.reveal()] : login.secrets(),
    );
  const located = await locateServiceUrl({ ...deps, exchange, tap }, mailbox, login, signal).catch((error: unknown) => {
    throw withoutGiven(error, { secrets: login.secrets() });
  });
  const key = accountKey(exchange, mailbox, new URL(located.serviceUrl.url).origin);
  const { account, over: release } = exchange.acquire(deps, { key, trust: mailbox.receive });
  const context = createCallContext(mailbox, {
    library,
    exchange,
    account,
    located,
    login,
    http: ewsHttp(account, login, tap),
  });
  return createSession(context, deps.intake ?? createIntake(), () => {
    context.open = false;
    release();
  });
}

function createSession(context: CallContext, intake: Intake, close: () => void): EwsSession {
  const { library, account, located, anchor, access } = context;
  return {
    library,
    intake,
    accountKey: account.key,
    url: located.serviceUrl.url,
    anchor,
    grouping: located.serviceUrl.grouping,
    get open() {
      return context.open;
    },
    callLibrary: (what, work, signal) => callLibrary(context, { what, work }, signal),
    postSoap: (what, body, signal, options = {}) => postSoap(context, { ...options, what, body }, signal),
    folder(name) {
      const wellKnown = Object.entries(library.WellKnownFolderName).find(
        ([key]) => key.toLowerCase() === name.toLowerCase(),
      );
      if (typeof wellKnown?.[1] !== "number")
        throw new Problem("folder", `Exchange has no folder ${name}`, { retry: "never" });
      const owner = access === "delegate" ? new library.Mailbox(anchor) : undefined;
      return owner ? new library.FolderId(wellKnown[1], owner) : new library.FolderId(wellKnown[1]);
    },
    describe() {
      const { tls } = account.connectionPool(new URL(located.serviceUrl.url));
      return { server: account.serverVersion ?? null, capabilities: [], tls };
    },
    close() {
      close();
      return Promise.resolve();
    },
  };
}
