/** Leases of a single node: it always owns every mailbox, with one holder at a time. */
import { keyedSemaphore } from "../../shared/concurrency/keyed-semaphore.ts";
import type { Cursors } from "../../shared/store/store.ts";
import type { Leases } from "./lease.ts";

/**
 * Holders of one key follow each other in the order in which they asked. Each gets a higher fence than all before. A
 * caller who stops waiting does not delay those behind him.
 */
export function singleLeases(cursors: Pick<Cursors, "issueFence">): Leases {
  const locks = keyedSemaphore(1);
  return {
    async hold(key, work, signal) {
      using _ = await locks.acquire(key, {}, signal);
      signal.throwIfAborted();
      const fence = await cursors.issueFence(key);
      return await work({ key, fence, signal });
    },
  };
}
