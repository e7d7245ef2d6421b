/** Compares many folders over the connection that also listens. The first folder never waits for long. */
import type { Arrival } from "../../contract/message.ts";
import type { WatchEvent } from "../mail.ts";
import { isSameUidValidity } from "./epoch.ts";
import type { FolderWatch } from "./folder-watch.ts";
import type { WatchedFolder } from "./folders.ts";
import type { IdleListener } from "./idle.ts";
import { type FolderStatus, listStatuses } from "./list-status.ts";
import type { FolderState } from "./reconcile.ts";
import { samePath, type Session } from "./session.ts";

/** After this time on other folders, the first folder is compared in between. */
const GIVE_WAY_MS = 2_000;
/** From this number of folders on, one command for all is cheaper than one for each. */
const MIN_LISTED = 4;
/** Missing uids are asked for this often, even if STATUS says that nothing has changed. */
const GAP_CHECK_MS = 60_000;

export type RoundContext = {
  session: Session;
  folders: FolderWatch;
  listener: IdleListener;
  notify: (sign: WatchEvent) => void;
};

/**
 * Compares each folder unless STATUS says that nothing has changed. `first` is the folder with IDLE. It is among
 * `polled` only if the server does not notify about all new mail.
 */
export async function* pollRound(
  context: RoundContext,
  { polled, first }: { polled: WatchedFolder[]; first: string | undefined },
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { session, folders, listener } = context;
  const statuses = polled.length >= MIN_LISTED ? await listStatuses(session, signal) : undefined;
  let firstSeenAt = performance.now();
  for (const one of polled) {
    if (signal.aborted) return;
    const { folder } = one;
    const isFirst = folder === first;
    // Some servers (Dovecot, Courier) answer STATUS of the open folder from an old view, so it is selected again.
    if (isFirst || (await hasNews(context, one, statuses, signal)))
      yield* giveWay(context, folders.look(session, folder, signal, { afresh: true }), first, signal);
    if (first === undefined || isFirst) continue;
    if (!listener.takeChange(first) && performance.now() - firstSeenAt < GIVE_WAY_MS) continue;
    yield* folders.look(session, first, signal, { current: true });
    firstSeenAt = performance.now();
  }
}

/** Yields what a comparison yields, and compares the first folder in between if it takes long. */
async function* giveWay(
  { session, folders }: RoundContext,
  arrivals: AsyncGenerator<Arrival, void, undefined>,
  first: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  let firstSeenAt = performance.now();
  for await (const arrival of arrivals) {
    yield arrival;
    if (first === undefined || performance.now() - firstSeenAt < GIVE_WAY_MS) continue;
    yield* folders.look(session, first, signal, { current: true });
    firstSeenAt = performance.now();
  }
}

async function hasNews(
  { session, folders, notify }: RoundContext,
  { folder, listedAs }: WatchedFolder,
  statuses: ReadonlyMap<string, FolderStatus> | undefined,
  signal: AbortSignal,
): Promise<boolean> {
  const state = folders.stateOf(folder);
  if (folders.isAway(folder) || !state.cursor) return true;
  const { client } = session;
  const path = session.pathOf(folder);
  if (client.mailbox && samePath(client.mailbox.path, path)) return true;
  const getStatus = () =>
    client.status(path, { uidNext: true, uidValidity: true, messages: true }).catch(falseIfMissing);
  const listed = listedAs === undefined ? undefined : statuses?.get(listedAs);
  const ask = () => session.runExclusive(`STATUS ${folder}`, getStatus, signal);
  const status = listed ?? (await folders.ask(session, folder, ask, signal));
  notify({ kind: "verified" });
  if (!status || !isUnchanged(state, status)) return true;
  return state.gaps.length > 0 && performance.now() - state.checkedAt > GAP_CHECK_MS;
}

function isUnchanged({ cursor, seen, count }: FolderState, status: FolderStatus): boolean {
  const sameEpoch = cursor !== undefined && isSameUidValidity(cursor.epoch, status.uidValidity);
  return sameEpoch && status.uidNext === seen + 1 && status.messages === count;
}

function falseIfMissing(error: unknown): false {
  if (error instanceof Error && Reflect.get(error, "code") === "NotFound") return false;
  throw error;
}
