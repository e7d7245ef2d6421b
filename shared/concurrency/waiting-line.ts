/** A line of waiters. A waiter that gives up leaves the line, and its listener and timer are removed. */
import { Problem } from "../contract/problem.ts";

/** `ms` is the longest wait. After it the wait rejects with `late()`, by default a `timeout` Problem. */
export type WaitLimits = { ms?: number; late?: () => Error };

/** `about` is what the owner of the line needs to know about the waiter. */
export type Waiter<A, T> = { readonly about: A; admit(value: T): void };

export interface WaitingLine<A, T> {
  readonly size: number;
  /** The waiter that has waited longest. */
  first(): Waiter<A, T> | undefined;
  /** The waiter that came last. */
  last(): Waiter<A, T> | undefined;
  /**
   * Resolves with the value that the owner of the line admits the waiter with. Rejects with the signal's reason, or
   * past the limits.
   */
  wait(about: A, limits: WaitLimits, signal?: AbortSignal): Promise<T>;
}

/**
 * A line in the order of arrival. `onLeave` is called when a waiter leaves without being admitted, because others may
 * fit now.
 */
export function waitingLine<A, T>(onLeave: () => void = () => undefined): WaitingLine<A, T> {
  const waiters = new Set<Waiter<A, T>>();
  return {
    get size() {
      return waiters.size;
    },
    first: () => waiters.values().next().value,
    last: () => [...waiters].at(-1),
    wait(about, { ms, late = tookTooLong }, signal) {
      const { promise, resolve, reject } = Promise.withResolvers<T>();
      if (signal?.aborted) return Promise.reject(signal.reason);
      const leave = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", onAbort);
        waiters.delete(waiter);
      };
      const giveUp = (why: unknown) => {
        leave();
        reject(why);
        onLeave();
      };
      const onAbort = () => giveUp(signal?.reason);
      const waiter = {
        about,
        admit(value: T) {
          leave();
          resolve(value);
        },
      };
      const timer = ms === undefined ? undefined : setTimeout(() => giveUp(late()), ms);
      signal?.addEventListener("abort", onAbort, { once: true });
      waiters.add(waiter);
      return promise;
    },
  };
}

function tookTooLong(): Problem {
  return new Problem("timeout", "The wait in line took too long");
}
