/** Limits tasks that came back often without an answer. One of them may have killed its workers. */

export type SuspectSlots = {
  /** Returns the function that releases the place. Undefined if no place is free now. */
  tryAcquire(): (() => void) | undefined;
};

/**
 * At first one suspect runs at a time, so that a task that kills its worker sends no other to the parked queue. After
 * each suspect that ends well, twice as many may run together.
 */
export function suspectSlots(): SuspectSlots {
  let running = 0;
  let allowed = 1;
  return {
    tryAcquire() {
      if (running >= allowed) return undefined;
      running += 1;
      return () => {
        running -= 1;
        allowed *= 2;
      };
    },
  };
}
