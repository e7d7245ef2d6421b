/** Where a server refuses streams: a pull subscription that is asked every few seconds what happened, one small request for all folders. */
import { Problem } from "../../../contract/problem.ts";
import { jittered, slept } from "../../../time.ts";
import { fateOfProblem } from "./failure-kinds.ts";
import type { Follower } from "../listening.ts";
import { Mishaps } from "./failures.ts";
import { pulled, pullSubscribed, unsubscribed } from "./subscribe.ts";

export type PullTimes = {
  everyMs: number;
  /** After this time streams are tried again. */
  againMs: number;
  /** A server that cannot be asked for so long is given up. */
  patienceMs: number;
};

const FAREWELL_MS = 1000;

/**
 * Hints for as long as streams are not tried again, or until pull subscriptions are refused as well. To the follower this is no
 * push: it looks by itself too.
 */
export async function pull(times: PullTimes, follower: Follower, signal: AbortSignal): Promise<void> {
  const until = performance.now() + times.againMs;
  const mishaps = new Mishaps(follower.session, times.patienceMs);
  follower.told({ kind: "how", push: false });
  while (performance.now() < until) {
    const startedAt = performance.now();
    try {
      await onePull(times, follower, until, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Problem)) throw error;
      const fate = fateOfProblem(error);
      if (fate === "refused" || fate === "crowded") return;
      mishaps.add(fate ?? error, performance.now() - startedAt);
      await slept(jittered(times.everyMs), signal);
    }
    signal.throwIfAborted();
  }
}

async function onePull(times: PullTimes, follower: Follower, until: number, signal: AbortSignal): Promise<void> {
  const { session, folders, hint, told } = follower;
  let at = await pullSubscribed(session, folders, signal);
  hint("all");
  while (performance.now() < until && (await slept(jittered(times.everyMs), signal))) {
    const notice = await pulled(session, at, signal);
    told({ kind: "heard" });
    for (const stirred of notice.news.values()) hint(stirred);
    at = { ...at, watermark: notice.watermark ?? at.watermark };
  }
  if (session.open) await unsubscribed(session, at.id, session.anchor, AbortSignal.timeout(FAREWELL_MS));
}
