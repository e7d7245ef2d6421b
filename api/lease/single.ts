/** Leases of a node that is alone: it always owns every mailbox, one holder at a time. */
import type { Cursors } from "../../shared/store/store.ts";
import type { Leases } from "./lease.ts";

/**
 * Holders of one key follow each other in the order they asked; each gets a fence newer than all before. Who stops waiting
 * does not hold up those behind.
 */
export function singleLeases(cursors: Pick<Cursors, "fence">): Leases {
  const last = new Map<string, Promise<unknown>>();
  return {
    async hold(key, work, signal) {
      const before = last.get(key);
      const { promise: over, resolve: leave } = Promise.withResolvers<void>();
      const mine = Promise.all([before, over]).finally(() => {
        if (last.get(key) === mine) last.delete(key);
      });
      last.set(key, mine);
      try {
        if (before !== undefined) await unlessAborted(before, signal);
        signal.throwIfAborted();
        const fence = await cursors.fence(key);
        return await work({ key, fence, signal });
      } finally {
        leave();
      }
    },
  };
}

function unlessAborted(wait: Promise<unknown>, signal: AbortSignal): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason);
    if (signal.aborted) return stop();
    signal.addEventListener("abort", stop, { once: true });
    return wait.finally(() => signal.removeEventListener("abort", stop)).then(resolve, reject);
  });
}
