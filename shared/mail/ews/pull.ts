/** Where a server refuses streams: a pull subscription that is asked every few seconds what happened, one small request for all folders. */
import { Problem } from "../../contract/problem.ts";
import { jittered, slept } from "../../time.ts";
import { fateOfProblem } from "./fates.ts";
import type { Follower } from "./listening.ts";
import { pulled, pullSubscribed, unsubscribed } from "./subscriptions.ts";

export type PullTimes = {
  everyMs: number;
  /** After this time streams are tried again. */
  againMs: number;
};

const FAREWELL_MS = 1000;

/**
 * Hints for as long as streams are not tried again, or until pull subscriptions are refused as well. To the follower this is no
 * push: it looks by itself too.
 */
export async function pull(times: PullTimes, follower: Follower, signal: AbortSignal): Promise<void> {
  const until = performance.now() + times.againMs;
  follower.told({ kind: "how", push: false });
  while (performance.now() < until) {
    try {
      await onePull(times, follower, until, signal);
    } catch (error) {
      signal.throwIfAborted();
      const fate = error instanceof Problem ? fateOfProblem(error) : undefined;
      if (fate === undefined) throw error;
      if (fate !== "lost") return;
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
