/**
 * A subscription to an Exchange mailbox. The server's notifications say that there is something new, and
 * SyncFolderItems says what. The service calls it at the beginning, after every notification, after every reopened
 * stream, and from time to time in any case.
 */
import type { FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Arrival } from "../../../contract/message.ts";
import { jitter } from "../../../time.ts";
import { type Subscriber, createSubscriber, type ChangedFolders } from "../notifications/subscriber.ts";
import { folderFaults } from "../../exchange/folder-faults.ts";
import { type WatchedFolder, getWatchList, type WatchList } from "./folders.ts";
import type { NotificationPool } from "../notifications/pool.ts";
import { readChanges, type ChangesContext } from "./changes.ts";

/** How often the list of folders is read again if all are watched and nothing says that it changed. */
const REFRESH_LIST_MS = 10 * 60 * 1000;
/** After this time without knowing whether the server pushes, the mailbox counts as polled until it does. */
const DETECT_PUSH_MS = 20 * 1000;

export type WatchContext = Omit<ChangesContext, "faults"> & {
  notifications: NotificationPool;
  /**
   * How often a subscription compares its folders in any case, and how often it polls when the server does not notify.
   */
  probeMs: number;
  pollMs: number;
  /** `performance.now()` when connecting began. */
  startedAt: number;
};

type WatchLoop = WatchContext & ChangesContext & { subscriber: Subscriber };

/** The folders, when they were listed, which folder is next for a probe, and ids that belong to no listed folder. */
type FolderList = WatchList & { at: number; turn: number; outside: string[] };

/** The watch of MailConnection for `mode: push`. */
export async function* watchChanges(
  context: WatchContext,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { session, notifications, tell } = context;
  const subscriber = createSubscriber(notifications, session, () => tell({ kind: "verified" }), signal);
  try {
    const faults = folderFaults(context.mailbox, tell);
    yield* watchLoop({ ...context, subscriber, faults, delivered: subscriber.delivered }, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await subscriber.close();
  }
}

async function* watchLoop(context: WatchLoop, signal: AbortSignal): AsyncGenerator<Arrival, void, undefined> {
  const { session, mailbox, subscriber, faults, probeMs, pollMs } = context;
  let list: FolderList = {
    ...(await getWatchList(session, mailbox, signal)),
    at: performance.now(),
    turn: 0,
    outside: [],
  };
  // Subscribed before the first comparison, so that everything after that comparison is notified.
  subscriber.follow(foldersToFollow(mailbox, list));
  for (const folder of list.folders) yield* readChanges(context, folder, signal);
  let isIncomplete = faults.check(list.folders) || list.missing.length > 0;
  const undecidedUntil = performance.now() + DETECT_PUSH_MS;
  let probeAt = performance.now() + jitter(probeMs);
  let pollAt = performance.now() + pollMs;
  let notifiedPush: boolean | undefined;
  while (!signal.aborted) {
    const push = subscriber.push ?? (performance.now() < undecidedUntil ? undefined : false);
    const isNews = push !== undefined && push !== notifiedPush;
    if (isNews) notifyConnected(context, push);
    notifiedPush = push ?? notifiedPush;
    if (notifiedPush !== undefined) faults.report(list.folders, list, isNews);
    const retryAt = isIncomplete ? list.at + pollMs : Infinity;
    const changed = await subscriber.nextChanges(Math.min(retryAt, push ? probeAt : Math.min(probeAt, pollAt)));
    const now = performance.now();
    const isRetry = now >= retryAt;
    const known = new Set(list.folders.map(({ path }) => path));
    if (isRetry || isStale(context, list, changed)) list = await refreshList(context, list, changed, signal);
    const due = { probe: now >= probeAt, poll: !push && now >= pollAt };
    const again = list.folders.filter((one) => !known.has(one.path) || (isRetry && faults.has(one)));
    for (const folder of new Set([...foldersToCheck(list, changed, due), ...again]))
      yield* readChanges(context, folder, signal);
    isIncomplete = faults.check(list.folders) || list.missing.length > 0;
    if (due.probe) probeAt = now + jitter(probeMs);
    if (due.poll) pollAt = now + pollMs;
  }
}

function notifyConnected({ tell, startedAt }: WatchLoop, push: boolean): void {
  tell({ kind: "connected", push, ms: Math.round(performance.now() - startedAt), capabilities: [] });
}

/** A subscription to all folders is for those of the login. Folders of another mailbox must be named. */
function foldersToFollow({ receive }: MailboxOf<"ews">, { folders }: WatchList): FolderId[] | "all" {
  return receive.folders === "all" && receive.access !== "delegate" ? "all" : folders.map(({ folder }) => folder);
}

/**
 * If all folders are watched, the list is read again from time to time, and after a change in a folder that is not in
 * it.
 */
function isStale({ mailbox }: WatchLoop, { at, ids }: FolderList, changed: ChangedFolders): boolean {
  if (mailbox.receive.folders !== "all") return false;
  return changed === "all" || [...changed].some((id) => !ids.has(id)) || performance.now() - at >= REFRESH_LIST_MS;
}

async function refreshList(
  { session, mailbox, subscriber }: WatchLoop,
  previous: FolderList,
  changed: ChangedFolders,
  signal: AbortSignal,
): Promise<FolderList> {
  const { folders, ids, missing } = await getWatchList(session, mailbox, signal);
  // An id outside the folder tree causes only one new listing.
  const outside = [...previous.outside, ...(changed === "all" ? [] : changed)].filter((id) => !ids.has(id));
  const knownIds = new Set([...ids, ...outside]);
  const list = { folders, ids: knownIds, missing, outside, at: performance.now(), turn: previous.turn };
  const [was, is] = [previous, list].map((one) => one.folders.map(({ path }) => path).join("\n"));
  if (was !== is && foldersToFollow(mailbox, list) !== "all") subscriber.follow(foldersToFollow(mailbox, list));
  return list;
}

/**
 * The folders that a hint means; all if it does not name them. A probe adds the inbox and one other folder in turn,
 * because a mailbox with a hundred folders would otherwise do little else.
 */
function foldersToCheck(
  list: FolderList,
  changed: ChangedFolders,
  due: { probe: boolean; poll: boolean },
): WatchedFolder[] {
  const { folders } = list;
  if (changed === "all" || due.poll) return folders;
  const matching = folders.filter(({ folder }) => changed.has(folder.UniqueId));
  // The ids match none of the watched folders. Either those are known by a name, or this server has several ids for
  // one folder.
  if (matching.length === 0 && [...changed].some((id) => !list.ids.has(id))) return folders;
  if (!due.probe) return matching;
  const [first, ...others] = folders;
  list.turn += 1;
  return [...new Set([first, others[list.turn % others.length], ...matching])].filter((one) => one !== undefined);
}
