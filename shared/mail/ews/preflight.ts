/** Trying out an Exchange mailbox's settings step by step, so that a person learns which one is wrong and what to do about it. */
import type { MailboxOf } from "../../contract/mailbox.ts";
import { Problem } from "../../contract/problem.ts";
import type { PreflightReport } from "../mail.ts";
import { explained, step, type Try } from "../preflight-steps.ts";
import { secured } from "../net/tls.ts";
import { elementsOf } from "./soap/elements.ts";
import { fateOfProblem } from "./notifications/failure-kinds.ts";
import { type Watched, watchedFolders } from "./sync/folders.ts";
import { noticesIn } from "./soap/notifications.ts";
import { onlineNotice } from "./soap/exchange-online.ts";
import { problemOfCode } from "./soap/errors.ts";
import { type EwsDeps, type EwsSession, openEws } from "./client/session.ts";
import { affinity, streamRequest, subscribed, unsubscribed } from "./notifications/subscribe.ts";

type Attempt = Try<MailboxOf<"ews">>;
type Numbers = { MajorVersion: number; MinorVersion: number; MajorBuildNumber: number; MinorBuildNumber: number };

/** Products by the major and minor number of their versions. */
const PRODUCTS: Record<string, string> = {
  "14.0": "Exchange 2010",
  "14.1": "Exchange 2010 SP1",
  "14.2": "Exchange 2010 SP2",
  "14.3": "Exchange 2010 SP3",
  "15.0": "Exchange 2013",
  "15.1": "Exchange 2016",
  "15.2": "Exchange 2019 or Subscription Edition",
  "15.20": "Exchange Online",
};
const STREAM_MINUTES = 1;
const FAREWELL_MS = 2000;

/**
 * Finds, connects and logs in as a subscription would, and reports every step up to the first failure that makes the rest impossible.
 * Leaves the mailbox as it was. Throws only when the signal aborts.
 */
export async function preflight(
  deps: EwsDeps,
  mailbox: MailboxOf<"ews">,
  signal: AbortSignal,
): Promise<PreflightReport> {
  const attempt: Attempt = { mailbox, signal, steps: [] };
  const session = await found(deps, attempt);
  if (session) {
    try {
      if (await reached(deps, attempt, session)) await inspected(deps, attempt, session);
    } finally {
      await session.close();
    }
  }
  signal.throwIfAborted();
  return { ok: attempt.steps.every((one) => one.ok), steps: attempt.steps };
}

/** The session, with autodiscover where the mailbox names no server; that it found something is told with the addresses. */
async function found(deps: EwsDeps, { mailbox, signal, steps }: Attempt): Promise<EwsSession | undefined> {
  const startedAt = performance.now();
  try {
    return await openEws(deps, mailbox, signal);
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof Problem)) throw error;
    const name = ["auth", "auth_method", "token"].includes(error.code) ? "login" : "dns";
    steps.push({ name, ok: false, ms: Math.round(performance.now() - startedAt), ...explained(error) });
    return undefined;
  }
}

/** DNS, TCP, TLS, each by itself, so that the one that fails is named. */
async function reached(deps: EwsDeps, attempt: Attempt, session: EwsSession): Promise<boolean> {
  const { mailbox, signal, steps } = attempt;
  const { hostname: host, protocol, port: given } = new URL(session.url);
  const port = Number(given) || (protocol === "https:" ? 443 : 80);
  const timeoutMs = deps.timeouts.command;
  const { url, host: named, ca, fingerprint } = mailbox.receive;
  const origin = url === undefined && named === undefined ? `${session.url}, found by autodiscover: ` : "";
  const addresses = await step(attempt, "dns", async () => {
    const list = await deps.egress.addresses(host, signal);
    return { value: list, detail: origin + list.map((one) => one.address).join(", ") };
  });
  const raw =
    addresses &&
    (await step(attempt, "tcp", async () => {
      await deps.gate?.(host, signal);
      const socket = await deps.egress.connect({ host, port, timeoutMs }, signal);
      socket.on("error", () => undefined);
      return { value: socket, detail: `${socket.remoteAddress ?? ""} port ${port}` };
    }));
  if (!raw) return false;
  try {
    if (protocol === "https:") {
      const safe = await step(attempt, "tls", async () => {
        const tls = await secured(raw, { host, ca, fingerprint }, timeoutMs, signal);
        const detail = tls.getProtocol() ?? "TLS";
        tls.destroy();
        return { value: true, detail };
      });
      return safe ?? false;
    }
    steps.push({ name: "tls", ok: true, ms: 0, detail: "not used: a password shown by basic login travels in clear" });
    return true;
  } finally {
    raw.destroy();
  }
}

async function inspected(deps: EwsDeps, attempt: Attempt, session: EwsSession): Promise<void> {
  const { mailbox, signal } = attempt;
  const version = await step(attempt, "login", async () => {
    const numbers = await loggedIn(session, signal);
    const as = mailbox.receive.access === "own" ? "" : ` (${mailbox.receive.access} for ${mailbox.address})`;
    return { value: numbers, detail: mailbox.receive.auth.user + as };
  });
  const notice = onlineNotice(session.url);
  if (!version) {
    if (notice) attempt.steps.push({ name: "capabilities", ok: true, ms: 0, detail: notice.cause, ...notice });
    return;
  }
  const { MajorVersion, MinorVersion, MajorBuildNumber, MinorBuildNumber } = version;
  const number = [MajorVersion, MinorVersion, MajorBuildNumber, MinorBuildNumber].join(".");
  const product = PRODUCTS[`${MajorVersion}.${MinorVersion}`] ?? "Exchange";
  const detail = `${product} (${number})${notice ? `; ${notice.cause}` : ""}`;
  attempt.steps.push({ name: "capabilities", ok: true, ms: 0, detail, ...notice });
  const folders = await step(attempt, "folders", () => foldersOpened(session, mailbox, signal));
  if (!folders) return;
  if (mailbox.receive.mode === "poll") {
    attempt.steps.push({ name: "idle", ok: true, ms: 0, detail: "not used: the mailbox is polled" });
    return;
  }
  await step(attempt, "idle", async () => ({ value: true, detail: await notified(deps, session, folders, signal) }));
}

/** One request for the inbox: proves login, access and that the mailbox is there. */
async function loggedIn(session: EwsSession, signal: AbortSignal): Promise<Numbers> {
  const { library } = session;
  return session.ask(
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

async function foldersOpened(session: EwsSession, mailbox: MailboxOf<"ews">, signal: AbortSignal) {
  const { library } = session;
  const watched = await watchedFolders(session, mailbox, signal);
  const counts: string[] = [];
  for (const { path, folder } of watched.slice(0, 20)) {
    const bound = await session.ask("GetFolder", (by) => library.Folder.Bind(by, folder), signal);
    const name = path === bound.DisplayName ? path : `${path === "INBOX" ? path : bound.DisplayName}`;
    counts.push(`${name} (${bound.TotalCount} messages)`);
  }
  const more = watched.length > counts.length ? ` and ${watched.length - counts.length} more` : "";
  return { value: watched, detail: counts.join(", ") + more };
}

/** A subscription that is heard of once; where streams are refused, how new mail is found instead. */
async function notified(deps: EwsDeps, session: EwsSession, watched: Watched[], signal: AbortSignal): Promise<string> {
  const { anchor } = session;
  const folders = watched.map(({ folder }) => folder);
  try {
    const id = await subscribed(session, folders, anchor, signal);
    try {
      await heardOnce(deps, session, id, signal);
    } finally {
      await unsubscribed(session, id, anchor, AbortSignal.any([signal, AbortSignal.timeout(FAREWELL_MS)]));
    }
    return "the server notifies of new mail";
  } catch (error) {
    if (!(error instanceof Problem) || fateOfProblem(error) !== "refused") throw error;
    return `no streams (${error.evidence ?? error.message}): new mail is asked for instead`;
  }
}

async function heardOnce(deps: EwsDeps, session: EwsSession, id: string, signal: AbortSignal): Promise<void> {
  const options = { idleMs: 4 * deps.timeouts.command, headers: affinity(session.anchor) };
  const request = streamRequest([id], STREAM_MINUTES);
  const chunks = await session.raw("GetStreamingEvents", request, signal, options);
  for await (const envelope of elementsOf(chunks, { names: ["Envelope"] })) {
    const [notice] = noticesIn(envelope);
    if (notice && notice.code !== "NoError") throw problemOfCode(notice);
    return;
  }
  throw new Problem("deaf", "The server ended the stream of events without a word");
}
