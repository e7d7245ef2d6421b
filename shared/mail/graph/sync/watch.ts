/**
 * A subscription to a Graph mailbox. Graph has no connection that waits for news, so folders are polled: often while
 * messages come, seldom while it is quiet. Of many folders one request tells which have something new.
 */
import type { Arrival } from "../../../contract/message.ts";
import { clock, jitter, sleep } from "../../../time.ts";
import { pollLoop } from "../../poll-loop.ts";
import { type Changes, type WatchContext, watchedChanges } from "./changes.ts";
import type { WatchedFolder } from "./folders.ts";

export type PollTimes = {
  /** How often an active folder is compared, and a quiet one, in milliseconds. */
  activeMs: number;
  quietMs: number;
};

/** A folder counts as active for so long after a message. */
const ACTIVE_MS = 60 * 60_000;
/** More folders than these are not compared one by one each time. */
const FEW_FOLDERS = 5;

type Turn = { dueAt: number; intervalMs: number; activeUntil: number };

/** The watch of MailConnection for `mode: push`. `startedAt` is `performance.now()` when connecting began. */
export async function* watchChanges(
  context: WatchContext & { startedAt: number },
  times: PollTimes,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  try {
    const changes = watchedChanges(context);
    await changes.refresh(signal);
    for (const folder of changes.folders) yield* changes.compare(folder, signal);
    yield* changes.look({ atOnce: false }, signal);
    notifyConnected(context);
    yield* keepComparing(context, changes, times, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}

function notifyConnected({ tell, startedAt }: WatchContext & { startedAt: number }): void {
  tell({ kind: "connected", push: false, ms: Math.round(performance.now() - startedAt), capabilities: [] });
}

async function* keepComparing(
  { mailbox, lookMs }: WatchContext,
  changes: Changes,
  { activeMs, quietMs }: PollTimes,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const turns = new Map<string, Turn>();
  let listedAt = clock.now();
  let next = 0;
  const mailboxTurn = newTurn(activeMs);
  while (!signal.aborted) {
    const isStale = mailbox.receive.folders === "all" && clock.now() - listedAt >= lookMs;
    if (isStale || (changes.isIncomplete && clock.now() - listedAt >= quietMs)) {
      await changes.refresh(signal);
      listedAt = clock.now();
    }
    const { folders } = changes;
    if (folders.length > FEW_FOLDERS) {
      if (!(await sleep(mailboxTurn.dueAt - clock.now(), signal))) return;
      const arrived = yield* compareMany(changes, next++, signal);
      plan(mailboxTurn, arrived, { activeMs, quietMs });
      continue;
    }
    const due = folders.map((folder) => ({ folder, turn: turnOf(turns, folder, activeMs) }));
    const soonest = Math.min(...due.map(({ turn }) => turn.dueAt), clock.now() + quietMs);
    if (!(await sleep(Math.max(0, soonest - clock.now()), signal))) return;
    for (const { folder, turn } of due.filter((one) => one.turn.dueAt <= clock.now()))
      plan(turn, yield* counted(changes.compare(folder, signal)), { activeMs, quietMs });
    yield* changes.look({ atOnce: false }, signal);
  }
}

/** One look at all folders, and a comparison of one of them in turn. Returns the number of messages. */
async function* compareMany(
  changes: Changes,
  turn: number,
  signal: AbortSignal,
): AsyncGenerator<Arrival, number, undefined> {
  const found = yield* counted(changes.look({ atOnce: true }, signal));
  const folder = changes.folders[turn % changes.folders.length];
  return folder ? found + (yield* counted(changes.compare(folder, signal))) : found;
}

/** Passes the arrivals on. Returns the number of their messages. */
async function* counted(
  arrivals: AsyncGenerator<Arrival, void, undefined>,
): AsyncGenerator<Arrival, number, undefined> {
  let count = 0;
  for await (const arrival of arrivals) {
    yield arrival;
    count += arrival.messages.length;
  }
  return count;
}

function newTurn(activeMs: number): Turn {
  return { dueAt: clock.now() + jitter(activeMs), intervalMs: activeMs, activeUntil: clock.now() + ACTIVE_MS };
}

function turnOf(turns: Map<string, Turn>, { path }: WatchedFolder, activeMs: number): Turn {
  const turn = turns.get(path) ?? newTurn(activeMs);
  turns.set(path, turn);
  return turn;
}

/** After an hour without a message each wait is twice as long as the one before, up to `quietMs`. */
function plan(turn: Turn, arrived: number, { activeMs, quietMs }: PollTimes): void {
  const now = clock.now();
  if (arrived > 0) turn.activeUntil = now + ACTIVE_MS;
  turn.intervalMs = now < turn.activeUntil ? activeMs : Math.min(2 * turn.intervalMs, quietMs);
  turn.dueAt = now + jitter(turn.intervalMs);
}

/** The watch of MailConnection for `mode: poll`. Between runs there are no requests. */
export async function* pollChanges(
  context: WatchContext & { startedAt: number },
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { mailbox, tell } = context;
  const changes = watchedChanges(context);
  let connected = false;
  async function* run(): AsyncGenerator<Arrival, void, undefined> {
    await changes.refresh(signal);
    for (const folder of changes.folders) yield* changes.compare(folder, signal);
    yield* changes.look({ atOnce: false }, signal);
    if (!connected) notifyConnected(context);
    connected = true;
  }
  try {
    yield* pollLoop({ poll: mailbox.receive.poll, notify: tell }, run, () => Promise.resolve(), signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
