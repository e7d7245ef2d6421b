/**
 * Used if a server refuses streams: a pull subscription. Every few seconds one small GetEvents asks what happened in
 * all folders.
 */
import { Problem } from "../../../contract/problem.ts";
import { jitter, sleep } from "../../../time.ts";
import { classifyProblem } from "./failure-kinds.ts";
import type { Listener } from "./get-streaming-events.ts";
import { FailureCounter } from "./failures.ts";
import { getEvents, subscribePull, unsubscribe } from "./subscribe.ts";

export type PullTimes = {
  everyMs: number;
  /** After this time streams are tried again. */
  againMs: number;
  /** The server is given up when it did not answer for this long. */
  patienceMs: number;
};

const UNSUBSCRIBE_TIMEOUT_MS = 1000;

/**
 * Gives hints until it is time to try streams again, or until pull subscriptions are refused too. For the subscription
 * this is not push: it also polls by itself.
 */
export async function followByPull(times: PullTimes, listener: Listener, signal: AbortSignal): Promise<void> {
  const until = performance.now() + times.againMs;
  const failures = new FailureCounter(listener.session, times.patienceMs);
  listener.onStatus({ kind: "how", push: false });
  while (performance.now() < until) {
    const startedAt = performance.now();
    try {
      await runPullSubscription(times, listener, until, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Problem)) throw error;
      const kind = classifyProblem(error);
      if (kind === "refused" || kind === "crowded") return;
      failures.add(kind ?? error, performance.now() - startedAt);
      await sleep(jitter(times.everyMs), signal);
    }
    signal.throwIfAborted();
  }
}

async function runPullSubscription(
  times: PullTimes,
  listener: Listener,
  until: number,
  signal: AbortSignal,
): Promise<void> {
  const { session, folders, onChanges, onStatus } = listener;
  let position = await subscribePull(session, folders, signal);
  onChanges("all");
  while (performance.now() < until && (await sleep(jitter(times.everyMs), signal))) {
    const notice = await getEvents(session, position, signal);
    onStatus({ kind: "heard" });
    for (const keys of notice.delivered.values()) onStatus({ kind: "delivered", keys });
    for (const changed of notice.changes.values()) onChanges(changed);
    position = { ...position, watermark: notice.watermark ?? position.watermark };
  }
  if (session.open)
    await unsubscribe(session, position.id, session.anchor, AbortSignal.timeout(UNSUBSCRIBE_TIMEOUT_MS));
}
