/**
 * A subscription to an Exchange mailbox: the server's notifications say that there is something, SyncFolderItems says what. It is
 * asked at the beginning, after every notification and reopened stream, and from time to time whatever was heard.
 */
import type { FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Arrival } from "../../../contract/message.ts";
import { jittered } from "../../../time.ts";
import { type Ear, earFor, type Stirred } from "../notifications/subscriber.ts";
import { type Watched, watchList, type WatchList } from "./folders.ts";
import type { EwsHints } from "../notifications/pool.ts";
import { lookedAt, type Looking } from "./changes.ts";

/** How often the list of folders is read again where all are watched, and nothing says that it changed. */
const RELIST_MS = 10 * 60 * 1000;
/** How long a mailbox may be between looked at and listened to; then it is one that is polled, until the server notifies. */
const FINDING_OUT_MS = 20 * 1000;

export type Watching = Looking & {
  hints: EwsHints;
  /** How long a subscription goes without a look of its own, and how often one is polled that is not notified. */
  probeMs: number;
  pollMs: number;
  /** `performance.now()` when connecting began. */
  startedAt: number;
};

type Round = Watching & { ear: Ear };

/** The folders, when they were listed, whose turn it is to be looked at without a hint, and ids that are in no list. */
type Listed = WatchList & { at: number; turn: number; outside: string[] };

/** The watch of MailConnection for `mode: push`. */
export async function* watchOver(watching: Watching, signal: AbortSignal): AsyncGenerator<Arrival, void, undefined> {
  const { session, hints, tell } = watching;
  const ear = earFor(hints, session, () => tell({ kind: "verified" }), signal);
  try {
    yield* rounds({ ...watching, ear }, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    await ear.close();
  }
}

async function* rounds(round: Round, signal: AbortSignal): AsyncGenerator<Arrival, void, undefined> {
  const { session, mailbox, ear, probeMs, pollMs } = round;
  let list: Listed = { ...(await watchList(session, mailbox, signal)), at: performance.now(), turn: 0, outside: [] };
  // Before the first look: what comes after that look is notified.
  ear.follow(followed(mailbox, list));
  for (const folder of list.folders) yield* lookedAt(round, folder, signal);
  const undecidedUntil = performance.now() + FINDING_OUT_MS;
  let probeAt = performance.now() + jittered(probeMs);
  let pollAt = performance.now() + pollMs;
  let told: boolean | undefined;
  while (!signal.aborted) {
    const push = ear.push ?? (performance.now() < undecidedUntil ? undefined : false);
    if (push !== undefined && push !== told) connected(round, push);
    told = push ?? told;
    const stirred = await ear.listen(push ? probeAt : Math.min(probeAt, pollAt));
    const now = performance.now();
    if (isOld(round, list, stirred)) list = await listedAgain(round, list, stirred, signal);
    const due = { probe: now >= probeAt, poll: !push && now >= pollAt };
    for (const folder of toLookAt(list, stirred, due)) yield* lookedAt(round, folder, signal);
    if (due.probe) probeAt = now + jittered(probeMs);
    if (due.poll) pollAt = now + pollMs;
  }
}

function connected({ tell, startedAt }: Round, push: boolean): void {
  tell({ kind: "connected", push, ms: Math.round(performance.now() - startedAt), capabilities: [] });
}

/** A subscription to all folders is to those of the login; somebody else's have to be named. */
function followed({ receive }: MailboxOf<"ews">, { folders }: WatchList): FolderId[] | "all" {
  return receive.folders === "all" && receive.access !== "delegate" ? "all" : folders.map(({ folder }) => folder);
}

/** Where all folders are watched: the list is read again from time to time, and when something happened in one that is not in it. */
function isOld({ mailbox }: Round, { at, ids }: Listed, stirred: Stirred): boolean {
  if (mailbox.receive.folders !== "all") return false;
  return stirred === "all" || [...stirred].some((id) => !ids.has(id)) || performance.now() - at >= RELIST_MS;
}

async function listedAgain(
  { session, mailbox, ear }: Round,
  before: Listed,
  stirred: Stirred,
  signal: AbortSignal,
): Promise<Listed> {
  const { folders, ids } = await watchList(session, mailbox, signal);
  // What happens outside the tree of folders is asked about once.
  const outside = [...before.outside, ...(stirred === "all" ? [] : stirred)].filter((id) => !ids.has(id));
  const known = new Set([...ids, ...outside]);
  const list = { folders, ids: known, outside, at: performance.now(), turn: before.turn };
  const [was, is] = [before, list].map((one) => one.folders.map(({ path }) => path).join("\n"));
  if (was !== is && mailbox.receive.access === "delegate") ear.follow(followed(mailbox, list));
  return list;
}

/**
 * The folders that a hint means, all where one cannot tell. A probe adds the inbox and one of the others in turn: a mailbox with a
 * hundred folders would be asked about little else.
 */
function toLookAt(list: Listed, stirred: Stirred, due: { probe: boolean; poll: boolean }): Watched[] {
  const { folders } = list;
  if (stirred === "all" || due.poll) return folders;
  const meant = folders.filter(({ folder }) => stirred.has(folder.UniqueId));
  // Ids that mean none of the folders that were chosen: those are known by a name, or this server has several ids for one.
  if (meant.length === 0 && [...stirred].some((id) => !list.ids.has(id))) return folders;
  if (!due.probe) return meant;
  const [first, ...others] = folders;
  list.turn += 1;
  return [...new Set([first, others[list.turn % others.length], ...meant])].filter((one) => one !== undefined);
}
