/**
 * A subscription to a Graph mailbox. Graph has no connection that waits for news, so folders are polled: often while
 * messages come, seldom while it is quiet, or while Graph sends notifications. Of many folders one request tells which have
 * something new.
 */
import { graphRootOf } from "../../../contract/graph.ts";
import type { Arrival } from "../../../contract/message.ts";
import type { Problem } from "../../../contract/problem.ts";
import { clock, jitter } from "../../../time.ts";
import { pollLoop } from "../../poll-loop.ts";
import { type News, newsOf } from "../notifications/news.ts";
import type { GraphPush } from "../notifications/push.ts";
import { keepSubscribed } from "../notifications/subscription.ts";
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

/** What a comparison waits for, and whether Graph sends notifications now. */
type Hearing = { news: News; isPushed: () => boolean };

/**
 * The watch of MailConnection for `mode: push`. With `push` Graph is asked to notify.
 */
export async function* watchChanges(
  context: WatchContext & { push: GraphPush | undefined },
  times: PollTimes,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const ended = new AbortController();
  const until = AbortSignal.any([signal, ended.signal]);
  const hearing = { news: newsOf(), pushed: false, isPushed: () => hearing.pushed };
  let subscribed: Promise<void> | undefined;
  try {
    const wasWatched = context.cursors.size > 0;
    const changes = watchedChanges(context);
    await changes.refresh(signal);
    for (const folder of changes.folders) yield* changes.compare(folder, signal);
    yield* changes.look({ atOnce: false }, signal);
    changes.notifyConnected(false);
    subscribed = subscribe(context, changes, { hearing, spread: wasWatched }, until);
    yield* keepComparing(context, changes, { times, hearing }, signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  } finally {
    ended.abort();
    await subscribed;
  }
}

/** Keeps a subscription at Graph until the signal aborts, if this service has an address that Graph can reach. */
async function subscribe(
  context: WatchContext & { push: GraphPush | undefined },
  changes: Changes,
  { hearing, spread }: { hearing: Hearing & { pushed: boolean }; spread: boolean },
  signal: AbortSignal,
): Promise<void> {
  const { mailbox, push, emit } = context;
  const address = push?.addressOf(mailbox.id, graphRootOf(mailbox.receive));
  if (!push || !address) return;
  const session = await context.open();
  const { folders } = changes;
  const [only] = folders;
  const isOne = mailbox.receive.folders !== "all" && folders.length === 1 && only !== undefined;
  const resource = `${session.base}${isOne ? `/mailFolders/${encodeURIComponent(only.id)}` : ""}/messages`;
  let reported: string | undefined;
  const onPush = (problem: Problem | null) => {
    if (hearing.pushed !== (problem === null)) changes.notifyConnected(problem === null);
    hearing.pushed = problem === null;
    if (problem && problem.message !== reported) {
      const { code, message } = problem;
      emit?.({ kind: "mailbox.push_refused", mailbox: mailbox.id, failure: { code, cause: message } });
    }
    reported = problem?.message;
  };
  const onNews = () => hearing.news.hint();
  await keepSubscribed({ session, push, mailbox: mailbox.id, address, resource, spread, onNews, onPush }, signal);
}

async function* keepComparing(
  { mailbox, lookMs }: WatchContext,
  changes: Changes,
  { times, hearing: { news, isPushed } }: { times: PollTimes; hearing: Hearing },
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { activeMs, quietMs } = times;
  // Notifications make polling seldom, and never needless: they may be lost.
  const timesNow = () => (isPushed() ? { activeMs: quietMs, quietMs } : times);
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
      if ((await news.wait(Math.max(0, mailboxTurn.dueAt - clock.now()), signal)) === "aborted") return;
      const arrived = yield* compareMany(changes, next++, signal);
      if (arrived > 0) news.found();
      plan(mailboxTurn, { arrived, failed: false }, timesNow());
      continue;
    }
    const due = folders.map((folder) => ({ folder, turn: turnOf(turns, folder, activeMs) }));
    const soonest = Math.min(...due.map(({ turn }) => turn.dueAt), clock.now() + quietMs);
    const how = await news.wait(Math.max(0, soonest - clock.now()), signal);
    if (how === "aborted") return;
    for (const { folder, turn } of due.filter((one) => how === "hinted" || one.turn.dueAt <= clock.now())) {
      const arrived = yield* counted(changes.compare(folder, signal));
      if (arrived > 0) news.found();
      plan(turn, { arrived, failed: changes.isFaulty(folder) }, timesNow());
    }
    yield* changes.look({ atOnce: false }, signal);
  }
}

/**
 * One look at all folders, and a comparison of one of them in turn, or of all if no look is allowed. Returns the number of
 * messages.
 */
async function* compareMany(
  changes: Changes,
  turn: number,
  signal: AbortSignal,
): AsyncGenerator<Arrival, number, undefined> {
  let found = yield* counted(changes.look({ atOnce: true }, signal));
  const { folders, isLookRefused } = changes;
  const inTurn = isLookRefused ? folders : [folders[turn % folders.length]];
  for (const folder of inTurn) if (folder) found += yield* counted(changes.compare(folder, signal));
  return found;
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

/**
 * After an hour without a message, and while the folder cannot be read, each wait is twice as long as the one before, up
 * to `quietMs`.
 */
function plan(
  turn: Turn,
  { arrived, failed }: { arrived: number; failed: boolean },
  { activeMs, quietMs }: PollTimes,
): void {
  const now = clock.now();
  if (arrived > 0) turn.activeUntil = now + ACTIVE_MS;
  turn.intervalMs = now < turn.activeUntil && !failed ? activeMs : Math.min(2 * turn.intervalMs, quietMs);
  turn.dueAt = now + jitter(turn.intervalMs);
}

/** The watch of MailConnection for `mode: poll`. Between runs there are no requests. */
export async function* pollChanges(
  context: WatchContext,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { mailbox, tell } = context;
  const changes = watchedChanges(context);
  let connected = false;
  async function* run(): AsyncGenerator<Arrival, void, undefined> {
    await changes.refresh(signal);
    for (const folder of changes.folders) yield* changes.compare(folder, signal);
    yield* changes.look({ atOnce: false }, signal);
    if (!connected) changes.notifyConnected(false);
    connected = true;
  }
  try {
    yield* pollLoop({ poll: mailbox.receive.poll, notify: tell }, run, () => Promise.resolve(), signal);
  } catch (error) {
    if (!signal.aborted) throw error;
  }
}
