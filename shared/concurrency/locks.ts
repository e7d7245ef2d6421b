/** Locks by name, each with one holder at a time: in this process, or over all nodes if the store offers that. */
import { Problem } from "../contract/problem.ts";
import { keyedSemaphore } from "./keyed-semaphore.ts";

/** `waitMs` is the longest wait for the lock. `what` names the lock in the message of a timeout. */
export type LockLimits = { waitMs: number; what: string };

export interface Locks {
  /**
   * Runs `work` while nobody else holds this key, and settles as `work` does. The signal of `work` aborts with the
   * given one, or when another node may have the lock. Throws `timeout` after the longest wait, and `store` if the
   * store does not answer.
   */
  hold<T>(key: string, limits: LockLimits, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T>;
}

/** Locks of a node that is alone. Waiters get the lock in the order they came. */
export function processLocks(): Locks {
  const holders = keyedSemaphore(1);
  return {
    async hold(key, { waitMs, what }, work, signal) {
      using _ = await holders.acquire(key, { ms: waitMs, late: () => tookTooLong(what, waitMs) }, signal);
      return await work(signal);
    },
  };
}

export function tookTooLong(what: string, waitMs: number): Problem {
  return new Problem(
    "timeout",
    `${what} had to wait for another connection or node for more than ${waitMs / 1000} seconds`,
  );
}
