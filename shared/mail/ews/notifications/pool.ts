/**
 * The pool of notifications of a process. Mailboxes of one login share streaming connections, because servers allow few
 * (10; Exchange 2013: 3), with at most 200 subscriptions each.
 */
import type { FolderId } from "ews-javascript-api";
import { Problem } from "../../../contract/problem.ts";
import { backoff, sleep } from "../../../time.ts";
import { accountStreams, type AccountStreams, type PooledStream, type StreamLimits } from "./account-streams.ts";
import { classifyProblem } from "./failure-kinds.ts";
import type { Listener } from "./get-streaming-events.ts";
import { FailureCounter } from "./failures.ts";
import type { ChangedFolders } from "../soap/notifications.ts";
import { followByPull, type PullTimes } from "./pull.ts";
import type { EwsSession } from "../client/session.ts";
import type { StreamEnd } from "./stream.ts";

export interface NotificationPool {
  /**
   * Follows folders of a mailbox until the signal aborts. `onChanges` is called whenever the connection was opened
   * (again) and whenever something appeared. It is only a hint to compare the folders. `onStatus` says that the server
   * sent something, and whether it pushes notifications. If it does not, hints may come late or never. Throws a Problem
   * only if the mailbox cannot continue: a refused login, no such mailbox, a server without an answer for minutes. When
   * the signal aborts it throws the reason.
   */
  follow(
    session: EwsSession,
    folders: FolderId[] | "all",
    onChanges: (folderIds: ChangedFolders) => void,
    onStatus: Listener["onStatus"],
    signal: AbortSignal,
  ): Promise<never>;
}

export type PoolLimits = StreamLimits & PullTimes;

const SECOND = 1000;
const MINUTE = 60 * SECOND;

const LIMITS: PoolLimits = {
  lifeMs: 24 * MINUTE,
  silenceMs: 95 * SECOND,
  gatherMs: SECOND,
  settleMs: 5 * SECOND,
  patienceMs: MINUTE,
  backoff: backoff.reconnect,
  everyMs: 15 * SECOND,
  againMs: 15 * MINUTE,
  perStream: 200,
  streams: 10,
};

/** The pool of a process. `overrides` shorten its times in tests. */
export function notificationPool(overrides: Partial<PoolLimits> = {}): NotificationPool {
  const limits = { ...LIMITS, ...overrides };
  const streams = accountStreams(limits);
  return {
    async follow(session, folders, onChanges, onStatus, signal) {
      const listener: Listener = { session, folders, onChanges, onStatus };
      for (;;) {
        await followByStream({ limits, streams }, listener, signal);
        const startedAt = performance.now();
        await followByPull(limits, listener, signal);
        // Neither way works. The subscription polls by itself until streams are tried again.
        await sleep(Math.max(0, startedAt + limits.againMs - performance.now()), signal);
        signal.throwIfAborted();
      }
    },
  };
}

/** Uses streams as long as they work. Returns when another way is needed. */
async function followByStream(
  { limits, streams }: { limits: PoolLimits; streams: AccountStreams },
  listener: Listener,
  signal: AbortSignal,
): Promise<void> {
  const { session } = listener;
  const failures = new FailureCounter(session, limits.patienceMs);
  while (!failures.shouldGiveUp) {
    const ownAnchor = failures.needsOwnConnection ? session.anchor : "";
    const group = [session.url, session.grouping, ownAnchor].join(" ");
    const pooled = streams.acquire(session.accountKey, group, session.anchor);
    if (!pooled) return;
    const startedAt = performance.now();
    const ending = await followOnStream(streams, pooled, listener, signal);
    if (ending === "refused") return;
    failures.add(ending, performance.now() - startedAt);
    if (failures.consecutive > 0) await sleep(limits.backoff(failures.consecutive), signal);
    signal.throwIfAborted();
  }
}

/** How a stream ended for this mailbox. A Problem that concerns the mailbox or its server is returned too. */
async function followOnStream(
  streams: AccountStreams,
  pooled: PooledStream,
  listener: Listener,
  signal: AbortSignal,
): Promise<StreamEnd | Problem> {
  try {
    const ending = await pooled.stream.follow(listener, signal);
    if (ending === "crowded") streams.lowerLimit(pooled);
    return ending;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof Problem)) throw error;
    const kind = classifyProblem(error);
    // This error does not concern the stream, which works for others. It concerns any further request: the login
    // needs a pause.
    return kind === undefined || kind === "crowded" ? error : kind;
  } finally {
    streams.release(pooled);
  }
}
