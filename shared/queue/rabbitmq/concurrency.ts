/** Who may start now: at most so many at once, at most a quarter of them for one lane, and lanes that wait take turns. */

export type Places = {
  /**
   * Resolves true when one of this lane may start, false when `clear` was called first. Undefined when enough of this lane wait
   * already: what waits here keeps the broker from handing out others.
   */
  enter(lane: string): Promise<boolean> | undefined;
  /** One that had started has finished. */
  leave(lane: string): void;
  /**
   * Nobody starts for so long. The first tasks of a backlog arrive one by one: whoever starts the first at once serves its lane
   * alone, however many wait behind.
   */
  pause(ms: number): void;
  /** Nobody starts any more. */
  clear(): void;
  readonly running: number;
  readonly waiting: number;
};

/** What the broker may hand out beyond `concurrency`: far enough to see other lanes behind a lane with many tasks. */
const AHEAD = 128;

/** How many unanswered tasks the broker should allow us. */
export const prefetchFor = (concurrency: number): number => concurrency + AHEAD;

/**
 * While there is room, fewer than eight lanes can have their share running (seven at a concurrency of 7, where a share is 1). So
 * with an eighth of AHEAD each, those who wait for their lane never use up the prefetch while there is room for other lanes.
 */
export function places(concurrency: number): Places {
  const share = Math.max(1, Math.floor(concurrency / 4));
  const waitingShare = Math.floor(AHEAD / Math.min(8, concurrency));
  const running = new Map<string, number>();
  const waiting = new Map<string, ((may: boolean) => void)[]>();
  let runningAll = 0;
  let waitingAll = 0;
  let closed = false;
  let pauses = 0;

  const runningIn = (lane: string) => running.get(lane) ?? 0;
  const admit = () => {
    if (closed || pauses > 0) return;
    for (const [lane, [first, ...rest]] of waiting) {
      if (runningAll >= concurrency) return;
      if (runningIn(lane) >= share) continue;
      // Taken out and put in again at the end: the next turn is another lane's.
      waiting.delete(lane);
      if (rest.length > 0) waiting.set(lane, rest);
      waitingAll -= 1;
      runningAll += 1;
      running.set(lane, runningIn(lane) + 1);
      first?.(true);
    }
  };
  return {
    enter(lane) {
      if (closed) return Promise.resolve(false);
      const others = waiting.get(lane) ?? [];
      if (runningIn(lane) + others.length >= share + waitingShare) return undefined;
      return new Promise((resolve) => {
        waiting.set(lane, [...others, resolve]);
        waitingAll += 1;
        admit();
      });
    },
    leave(lane) {
      const left = runningIn(lane) - 1;
      if (left > 0) running.set(lane, left);
      else running.delete(lane);
      runningAll -= 1;
      admit();
    },
    pause(ms) {
      pauses += 1;
      setTimeout(() => {
        pauses -= 1;
        admit();
      }, ms);
    },
    clear() {
      closed = true;
      for (const resolve of [...waiting.values()].flat()) resolve(false);
      waiting.clear();
      waitingAll = 0;
    },
    get running() {
      return runningAll;
    },
    get waiting() {
      return waitingAll;
    },
  };
}
