/**
 * Decides which task may start now: at most `concurrency` at once, at most a quarter of them of one lane. Waiting lanes
 * take turns.
 */

/** `stuck`: no waiting task could start for seconds, and another process has room for this one. */
export type Turn = "start" | "stuck" | "closed";

export type LaneSlots = {
  /**
   * Resolves when a task of this lane may start, when it shall not wait here any longer, or when `close` is called. Undefined if
   * enough tasks of this lane wait already: each waiting task uses up prefetch that other lanes need.
   */
  acquire(lane: string): Promise<Turn> | undefined;
  /** Whether a task of this lane would start at once. */
  hasRoom(lane: string): boolean;
  /** A task that had started has ended. */
  release(lane: string): void;
  /**
   * Starts nothing for this time. The first tasks of a backlog arrive one by one. If the first ones started at once,
   * their lane would take all places.
   */
  pause(ms: number): void;
  /** Starts nothing any more. */
  close(): void;
  readonly running: number;
  readonly waiting: number;
};

/**
 * How many tasks the broker may deliver beyond `concurrency`. It must be enough to see other lanes behind a lane with
 * many tasks.
 */
const PREFETCH_AHEAD = 128;

/** If none of the waiting tasks could start for this time, it is asked whether another process has room for them. */
const STUCK_MS = 2_000;

/** How many unacknowledged tasks the broker may deliver to this process. */
export const prefetchFor = (concurrency: number): number => concurrency + PREFETCH_AHEAD;

/**
 * While a place is free, fewer than eight lanes can use their whole share (seven if `concurrency` is 7, where a share
 * is 1). Each lane may let an eighth of PREFETCH_AHEAD wait, so waiting tasks never use up the prefetch while a place
 * is free for another lane.
 */
export function laneSlots(concurrency: number, hasRoomElsewhere: () => Promise<boolean>): LaneSlots {
  const perLane = Math.max(1, Math.floor(concurrency / 4));
  const waitingPerLane = Math.floor(PREFETCH_AHEAD / Math.min(8, concurrency));
  const running = new Map<string, number>();
  const waiting = new Map<string, ((turn: Turn) => void)[]>();
  let runningTotal = 0;
  let waitingTotal = 0;
  let closed = false;
  let pauses = 0;

  const endWaiting = (turn: Turn) => {
    for (const resolve of [...waiting.values()].flat()) resolve(turn);
    waiting.clear();
    waitingTotal = 0;
  };
  const restartWatch = watchProgress(async () => {
    if (await hasRoomElsewhere()) endWaiting("stuck");
    else restartWatch(waitingTotal > 0);
  });
  const runningIn = (lane: string) => running.get(lane) ?? 0;
  const startWaiting = () => {
    if (closed || pauses > 0) return;
    for (const [lane, [first, ...rest]] of waiting) {
      if (runningTotal >= concurrency) return;
      if (runningIn(lane) >= perLane) continue;
      // The lane goes to the end of the map, so the next turn is another lane's.
      waiting.delete(lane);
      if (rest.length > 0) waiting.set(lane, rest);
      waitingTotal -= 1;
      runningTotal += 1;
      running.set(lane, runningIn(lane) + 1);
      first?.("start");
      restartWatch(waitingTotal > 0);
    }
  };
  return {
    hasRoom: (lane) => !closed && pauses === 0 && runningTotal < concurrency && runningIn(lane) < perLane,
    acquire(lane) {
      if (closed) return Promise.resolve("closed");
      const others = waiting.get(lane) ?? [];
      if (runningIn(lane) + others.length >= perLane + waitingPerLane) return undefined;
      return new Promise((resolve) => {
        waiting.set(lane, [...others, resolve]);
        waitingTotal += 1;
        if (waitingTotal === 1) restartWatch(true);
        startWaiting();
      });
    },
    release(lane) {
      const left = runningIn(lane) - 1;
      if (left > 0) running.set(lane, left);
      else running.delete(lane);
      runningTotal -= 1;
      startWaiting();
    },
    pause(ms) {
      pauses += 1;
      setTimeout(() => {
        pauses -= 1;
        startWaiting();
      }, ms);
    },
    close() {
      closed = true;
      endWaiting("closed");
    },
    get running() {
      return runningTotal;
    },
    get waiting() {
      return waitingTotal;
    },
  };
}

/** Calls `onStuck` when the watch was not restarted for STUCK_MS. Restart it when a task starts, with whether others wait. */
function watchProgress(onStuck: () => Promise<void>): (isWaiting: boolean) => void {
  let timer: NodeJS.Timeout | undefined;
  return (isWaiting) => {
    clearTimeout(timer);
    if (isWaiting) timer = setTimeout(onStuck, STUCK_MS).unref();
  };
}
