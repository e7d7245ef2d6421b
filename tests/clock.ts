/** A clock that runs, and that a test moves ahead. */
import { setImmediate as turn } from "node:timers/promises";
import { type Clock, installClock } from "../shared/time.ts";

export type MovableClock = Disposable & {
  /** `ms` pass at once: who waits for a time that has come wakes, those who waited shortest first. */
  advance(ms: number): Promise<void>;
};

type Waiting = { at: number; wake: () => void; timer: NodeJS.Timeout };

/** Everything in this process that waits by `shared/time.ts` waits by this clock until it is disposed of. */
export function movableClock(): MovableClock {
  let aheadMs = 0;
  const waiting = new Set<Waiting>();
  const wake = (one: Waiting) => {
    clearTimeout(one.timer);
    if (waiting.delete(one)) one.wake();
  };
  const clock: Clock = {
    now: () => Date.now() + aheadMs,
    monotonic: () => performance.now() + aheadMs,
    wakeAfter(ms, work) {
      const one: Waiting = { at: clock.monotonic() + ms, wake: work, timer: setTimeout(() => wake(one), ms) };
      waiting.add(one);
      return () => {
        clearTimeout(one.timer);
        waiting.delete(one);
      };
    },
  };
  const installed = installClock(clock);
  return {
    async advance(ms) {
      aheadMs += ms;
      for (const one of [...waiting].toSorted((a, b) => a.at - b.at)) {
        clearTimeout(one.timer);
        if (one.at <= clock.monotonic()) wake(one);
        else one.timer = setTimeout(() => wake(one), one.at - clock.monotonic());
      }
      await turn();
    },
    [Symbol.dispose]: () => installed[Symbol.dispose](),
  };
}
