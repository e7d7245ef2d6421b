/**
 * Tries an Exchange mailbox's settings step by step, so that a person learns which one is wrong and what to do about
 * it.
 */
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { PreflightReport } from "../mail.ts";
import {
  checkWebServer,
  type PreflightRun,
  preflightRun,
  runStep,
  toStepFailure,
  toStepProblem,
} from "../preflight-steps.ts";
import { readElements } from "./soap/elements.ts";
import { classifyProblem } from "./notifications/failure-kinds.ts";
import { type WatchedFolder, getWatchList } from "./sync/folders.ts";
import { parseNotifications } from "./soap/notifications.ts";
import { exchangeOnlineNotice } from "./soap/exchange-online.ts";
import { problemFromCode } from "./soap/errors.ts";
import { describeVersion } from "./soap/versions.ts";
import { type EwsDeps, type EwsSession, openEws } from "./client/session.ts";
import { affinityHeaders, streamingEventsXml, subscribeStreaming, unsubscribe } from "./notifications/subscribe.ts";

type Attempt = PreflightRun<MailboxOf<"ews">>;
type ServerVersion = { MajorVersion: number; MinorVersion: number; MajorBuildNumber: number; MinorBuildNumber: number };

const STREAM_MINUTES = 1;
const UNSUBSCRIBE_TIMEOUT_MS = 2000;

/**
 * Finds the server, connects and logs in as a subscription would. Reports every step up to the first failure that makes
 * the rest impossible. The mailbox does not change. Throws only when the signal aborts.
 */
export async function preflight(
  deps: EwsDeps,
  mailbox: MailboxOf<"ews">,
  signal: AbortSignal,
): Promise<PreflightReport> {
  const attempt: Attempt = preflightRun(mailbox, signal);
  const session = await openSession(deps, attempt);
  if (session) {
    try {
      if (await checkConnection(deps, attempt, session)) await checkMailbox(deps, attempt, session);
    } finally {
      await session.close();
    }
  }
  signal.throwIfAborted();
  return { ok: attempt.steps.every((one) => one.ok), steps: attempt.steps };
}

/**
 * Opens the session, with autodiscover if the mailbox names no server. The report shows the URL that autodiscover found
 * with the addresses.
 */
async function openSession(deps: EwsDeps, attempt: Attempt): Promise<EwsSession | undefined> {
  const { mailbox, signal, deadline, steps } = attempt;
  const startedAt = performance.now();
  try {
    return await openEws(deps, mailbox, deadline);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof Problem) && !deadline.aborted) throw error;
    const problem = toStepProblem(attempt, error, "connect");
    const name = ["auth", "auth_method", "token"].includes(problem.code) ? "login" : "dns";
    steps.push({ name, ok: false, ms: Math.round(performance.now() - startedAt), ...toStepFailure(problem) });
    return undefined;
  }
}

/** DNS, TCP and TLS as separate steps, so that the report names the one that fails. */
function checkConnection(deps: EwsDeps, attempt: Attempt, session: EwsSession): Promise<boolean> {
  const { url, host, ca, fingerprint } = attempt.mailbox.receive;
  const origin = url === undefined && host === undefined ? `${session.url}, found by autodiscover: ` : "";
  const plain = "not used: a password shown by basic login travels in clear";
  return checkWebServer(deps, attempt, { url: new URL(session.url), ca, fingerprint, origin, plain });
}

async function checkMailbox(deps: EwsDeps, attempt: Attempt, session: EwsSession): Promise<void> {
  const { mailbox, deadline: signal } = attempt;
  const version = await runStep(attempt, "login", async () => {
    const numbers = await checkLogin(session, signal);
    const actingAs = mailbox.receive.access === "own" ? "" : ` (${mailbox.receive.access} for ${mailbox.address})`;
    return { value: numbers, detail: mailbox.receive.auth.user + actingAs };
  });
  const notice = exchangeOnlineNotice(session.url);
  if (!version) {
    if (notice) attempt.steps.push({ name: "capabilities", ok: true, ms: 0, detail: notice.cause, ...notice });
    return;
  }
  const { MajorVersion, MinorVersion, MajorBuildNumber, MinorBuildNumber } = version;
  const product = describeVersion([MajorVersion, MinorVersion, MajorBuildNumber, MinorBuildNumber]);
  const detail = product + (notice ? `; ${notice.cause}` : "");
  attempt.steps.push({ name: "capabilities", ok: true, ms: 0, detail, ...notice });
  const folders = await runStep(attempt, "folders", () => checkFolders(session, mailbox, signal));
  if (!folders) return;
  if (mailbox.receive.mode === "poll") {
    attempt.steps.push({ name: "idle", ok: true, ms: 0, detail: "not used: the mailbox is polled" });
    return;
  }
  await runStep(attempt, "idle", async () => ({
    value: true,
    detail: await checkNotifications(deps, session, folders, signal),
  }));
}

/** One request for the inbox. It proves the login, the access, and that the mailbox exists. */
async function checkLogin(session: EwsSession, signal: AbortSignal): Promise<ServerVersion> {
  const { library } = session;
  return session.callLibrary(
    "GetFolder",
    async (service) => {
      const shape = new library.PropertySet(library.BasePropertySet.IdOnly);
      await library.Folder.Bind(service, session.folder("inbox"), shape);
      const { MajorVersion, MinorVersion, MajorBuildNumber, MinorBuildNumber } = service.ServerInfo;
      return { MajorVersion, MinorVersion, MajorBuildNumber, MinorBuildNumber };
    },
    signal,
  );
}

async function checkFolders(session: EwsSession, mailbox: MailboxOf<"ews">, signal: AbortSignal) {
  const { library } = session;
  const { folders: watched, missing } = await getWatchList(session, mailbox, signal);
  const [problem] = missing;
  if (problem) throw problem;
  const counts: string[] = [];
  for (const { path, folder } of watched.slice(0, 20)) {
    const bound = await session.callLibrary("GetFolder", (by) => library.Folder.Bind(by, folder), signal);
    const name = path === bound.DisplayName ? path : `${path === "INBOX" ? path : bound.DisplayName}`;
    counts.push(`${name} (${bound.TotalCount} messages)`);
  }
  const more = watched.length > counts.length ? ` and ${watched.length - counts.length} more` : "";
  return { value: watched, detail: counts.join(", ") + more };
}

/**
 * Subscribes and waits for the first answer. If the server refuses streams, the report says how the service finds new
 * mail instead.
 */
async function checkNotifications(
  deps: EwsDeps,
  session: EwsSession,
  watched: WatchedFolder[],
  signal: AbortSignal,
): Promise<string> {
  const { anchor } = session;
  const folders = watched.map(({ folder }) => folder);
  try {
    const id = await subscribeStreaming(session, folders, anchor, signal);
    try {
      await awaitFirstEvent(deps, session, id, signal);
    } finally {
      await unsubscribe(session, id, anchor, AbortSignal.any([signal, AbortSignal.timeout(UNSUBSCRIBE_TIMEOUT_MS)]));
    }
    return "the server notifies of new mail";
  } catch (error) {
    if (!(error instanceof Problem) || classifyProblem(error) !== "refused") throw error;
    return `no streams (${error.evidence ?? error.message}): the service polls instead`;
  }
}

async function awaitFirstEvent(deps: EwsDeps, session: EwsSession, id: string, signal: AbortSignal): Promise<void> {
  const options = { idleMs: 4 * deps.timeouts.command, headers: affinityHeaders(session.anchor) };
  const request = streamingEventsXml([id], STREAM_MINUTES);
  const chunks = await session.postSoap("GetStreamingEvents", request, signal, options);
  for await (const envelope of readElements(chunks, { names: ["Envelope"] })) {
    const [notice] = parseNotifications(envelope);
    if (notice && notice.code !== "NoError") throw problemFromCode(notice);
    return;
  }
  throw new Problem("connection_stale", "The server ended the stream of events without an answer");
}
