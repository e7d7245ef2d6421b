/**
 * A subscription to an Exchange mailbox: the server's notifications say that there is something, SyncFolderItems says what. It is
 * asked at the beginning, after every notification and reopened stream, and from time to time whatever was heard.
 */
import type { MailboxOf } from "../../contract/mailbox.ts";
import type { Arrival } from "../../contract/message.ts";
import { jittered } from "../../time.ts";
import { type Ear, earFor, type Stirred } from "./ear.ts";
import { type Watched, watchedFolders } from "./folders.ts";
import type { EwsHints } from "./hub.ts";
import { lookedAt, type Looking } from "./look.ts";

/** How often the list of folders is read again where all are watched, and how soon after a hint that it may have changed. */
const RELIST_MS = 10 * 60 * 1000;
const RELIST_SOON_MS = 30 * 1000;
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
  const { session, mailbox, ear } = round;
  let folders = await watchedFolders(session, mailbox, signal);
  let listedAt = performance.now();
  // Before the first look: what comes after that look is notified.
  ear.follow(followed(mailbox, folders));
  for (const folder of folders) yield* lookedAt(round, folder, signal);
  const looked = performance.now();
  let told: boolean | undefined;
  let probeAt = looked + jittered(round.probeMs);
  let pollAt = looked + round.pollMs;
  while (!signal.aborted) {
    const push = ear.push ?? (performance.now() - looked < FINDING_OUT_MS ? undefined : false);
    if (push !== undefined && push !== told) connected(round, push);
    told = push ?? told;
    const next = push === undefined ? Math.min(pollAt, looked + FINDING_OUT_MS) : pollAt;
    const stirred = await ear.listen(push ? probeAt : Math.min(probeAt, next));
    const now = performance.now();
    const due = now >= probeAt || (!push && now >= pollAt);
    if (mailbox.receive.folders === "all" && now - listedAt >= (stirred === "all" ? RELIST_SOON_MS : RELIST_MS)) {
      const before = folders;
      folders = await watchedFolders(session, mailbox, signal);
      listedAt = now;
      if (mailbox.receive.access === "delegate" && differ(before, folders)) ear.follow(followed(mailbox, folders));
    }
    for (const folder of folders) if (due || isMeant(stirred, folder)) yield* lookedAt(round, folder, signal);
    if (due) [probeAt, pollAt] = [now + jittered(round.probeMs), now + round.pollMs];
  }
}

function connected({ tell, startedAt }: Round, push: boolean): void {
  tell({ kind: "connected", push, ms: Math.round(performance.now() - startedAt), capabilities: [] });
}

/** A subscription to all folders is to those of the login; somebody else's have to be named. */
function followed({ receive }: MailboxOf<"ews">, folders: Watched[]) {
  return receive.folders === "all" && receive.access !== "delegate" ? "all" : folders.map(({ folder }) => folder);
}

/** A folder that is known by its name alone is the only one, so every hint is about it. */
function isMeant(stirred: Stirred, { folder }: Watched): boolean {
  if (stirred === "all") return true;
  return folder.UniqueId ? stirred.has(folder.UniqueId) : stirred.size > 0;
}

function differ(one: Watched[], other: Watched[]): boolean {
  return JSON.stringify(one.map(({ path }) => path)) !== JSON.stringify(other.map(({ path }) => path));
}
