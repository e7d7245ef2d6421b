/**
 * A subscription over one IMAP connection: IDLE on the first folder, polling of the others, and a probe that proves
 * that the connection still works. A notification is only a hint. New messages are always found by comparing with the
 * cursor.
 */
import { Problem } from "../../contract/problem.ts";
import type { MailboxOf } from "../../contract/mailbox.ts";
import type { Arrival, Cursor } from "../../contract/message.ts";
import { jitter, sleep } from "../../time.ts";
import type { WatchEvent } from "../mail.ts";
import { getWatchStart } from "../since.ts";
import type { ImapDeps } from "./client.ts";
import { type FolderWatch, folderWatch } from "./folder-watch.ts";
import { type WatchedFolder, watchedFolders } from "./folders.ts";
import { createIdleListener, type IdleListener } from "./idle.ts";
import { pollRound } from "./round.ts";
import type { Session } from "./session.ts";

/** How often the list of folders is read again if all are watched. */
const RELIST_MS = 10 * 60 * 1000;
/** How long the first comparison of the folders may delay IDLE on the first one. */
const FIRST_LOOK_MS = 3_000;
/** Probes that are due within this time begin at the same moment. */
const PROBE_TOGETHER_MS = 1_000;
/** How often the service asks for missing uids of the first folder. */
const GAP_CHECK_MS = 10_000;

export type WatchContext = {
  deps: ImapDeps;
  session: Session;
  mailbox: MailboxOf<"imap">;
  notify: (sign: WatchEvent) => void;
  /** `performance.now()` when connecting began. */
  startedAt: number;
};

/** `watch` of MailConnection over an open connection. It never reconnects, and does not close the connection. */
export async function* watchFolders(
  context: WatchContext,
  cursors: Cursor[],
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  let connected = false;
  const notify = (sign: WatchEvent) => {
    if (sign.kind === "connected") connected = true;
    context.notify(sign);
  };
  const { deps, mailbox } = context;
  const folders = folderWatch({ deps, mailbox, notify, start: getWatchStart(mailbox, cursors) }, cursors);
  try {
    yield* watchLoop({ ...context, notify }, folders, signal);
  } catch (error) {
    if (signal.aborted) return;
    if (connected && error instanceof Problem && error.code === "timeout") throw toDeafProblem(error);
    throw error;
  }
}

function toDeafProblem(timeout: Problem): Problem {
  return new Problem("connection_stale", `The connection was open, but ${timeout.message}`, { cause: timeout });
}

async function* watchLoop(
  context: WatchContext,
  folders: FolderWatch,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { deps, session, mailbox, notify } = context;
  // Created before the first comparison, because the server does not repeat in IDLE what it reports during that.
  const listener = createIdleListener(session, signal);
  let watched = await watchedFolders(session, mailbox, signal);
  let listedAt = performance.now();
  let slowPush = false;
  yield* lookAtFirst(context, folders, watched, signal);
  folders.requireOne(watched.map(({ folder }) => folder));
  notifyConnected(context, listener);
  // Folders for which there was no time are compared now, while IDLE already runs on the first one.
  const isLookedAt = ({ folder }: WatchedFolder) =>
    folders.isAway(folder) || folders.stateOf(folder).cursor !== undefined;
  let pollAt = watched.every(isLookedAt) ? performance.now() + deps.folderPollMs : 0;
  let probeAt = nextProbe(deps);
  while (!signal.aborted) {
    folders.report(watched.map(({ folder }) => folder));
    const first = watched.find(({ folder }) => !folders.isAway(folder))?.folder;
    const pollsFirst = first === undefined || !listener.push || slowPush;
    const polls = pollsFirst || watched.length > 1 || mailbox.receive.folders === "all";
    const until = Math.min(probeAt, polls ? pollAt : Infinity);
    const changed = await waitForFirst({ session, folders, listener }, first, until, signal);
    if (signal.aborted) return;
    const now = performance.now();
    if (changed && first !== undefined) yield* folders.look(session, first, signal);
    if (now >= probeAt && first !== undefined) {
      const late = listener.push
        ? yield* probe(context, folders, first, signal)
        : await keepAlive(context, first, signal);
      if (late && !slowPush) notify({ kind: "slowPush", folder: first });
      slowPush ||= late;
    }
    if (now >= probeAt) probeAt = nextProbe(deps);
    if (!polls || now < pollAt) continue;
    if (mailbox.receive.folders === "all" && now - listedAt >= RELIST_MS) {
      watched = await watchedFolders(session, mailbox, signal);
      listedAt = now;
    }
    const polled = pollsFirst ? watched : watched.filter(({ folder }) => folder !== first);
    yield* pollRound({ session, folders, listener, notify }, { polled, first }, signal);
    folders.requireOne(watched.map(({ folder }) => folder));
    pollAt = performance.now() + deps.folderPollMs;
  }
}

/**
 * When to probe next, as performance.now() counts. Connections probe together: a process that works a little all the time
 * takes several times the CPU time of one that does the same work at once.
 */
function nextProbe({ probeMs }: ImapDeps): number {
  const together = Math.min(PROBE_TOGETHER_MS, probeMs / 10);
  return Math.ceil((performance.now() + jitter(probeMs)) / together) * together;
}

/**
 * Compares the folders: up to the first one that can be opened, the others as long as that does not take too long, and all
 * suspects, because IDLE may open one of them.
 */
async function* lookAtFirst(
  { session }: WatchContext,
  folders: FolderWatch,
  watched: WatchedFolder[],
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const until = performance.now() + FIRST_LOOK_MS;
  let found = false;
  for (const { folder } of folders.inOrder(watched)) {
    if (signal.aborted) return;
    if (found && performance.now() >= until && !folders.isSuspect(folder)) continue;
    yield* folders.look(session, folder, signal);
    found ||= !folders.isAway(folder);
  }
}

function notifyConnected({ session, startedAt, notify }: WatchContext, { push }: IdleListener): void {
  const capabilities = [...session.client.capabilities.keys()];
  notify({ kind: "connected", push, ms: Math.round(performance.now() - startedAt), capabilities });
}

/**
 * Waits for a change of the first folder, at most until the given time. Also returns true when it is time to ask for
 * missing uids.
 */
async function waitForFirst(
  { session, folders, listener }: { session: Session; folders: FolderWatch; listener: IdleListener },
  first: string | undefined,
  until: number,
  signal: AbortSignal,
): Promise<boolean> {
  if (first === undefined) {
    await sleep(Math.max(0, until - performance.now()), AbortSignal.any([signal, session.ended]));
    if (session.ended.aborted && !signal.aborted) throw session.ended.reason;
    return false;
  }
  const { seen, gaps, checkedAt } = folders.stateOf(first);
  const gapsAt = gaps.length > 0 ? checkedAt + GAP_CHECK_MS : Infinity;
  try {
    const changed = await listener.waitForChange(first, seen, Math.min(until, gapsAt));
    return changed || performance.now() >= gapsAt;
  } catch (error) {
    // The folder can no longer be opened. A comparison reports it.
    if (session.open && error instanceof Problem && error.code === "folder") return true;
    throw error;
  }
}

/**
 * Checks what this connection may not see: selects the folder again and compares. True if it found something that IDLE
 * did not report.
 */
async function* probe(
  { session }: WatchContext,
  folders: FolderWatch,
  folder: string,
  signal: AbortSignal,
): AsyncGenerator<Arrival, boolean, undefined> {
  let found = false;
  for await (const arrival of folders.look(session, folder, signal, { afresh: true })) {
    found ||= arrival.messages.length > 0;
    yield arrival;
  }
  return found;
}

/** A command that keeps a polled connection open. STATUS, because some servers do not count NOOP (163.com). */
async function keepAlive({ session, notify }: WatchContext, folder: string, signal: AbortSignal): Promise<false> {
  const path = session.pathOf(folder);
  await session.runExclusive(`STATUS ${folder}`, () => session.client.status(path, { uidNext: true }), signal);
  notify({ kind: "verified" });
  return false;
}
