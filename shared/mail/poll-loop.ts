/** The loop of a polled mailbox: runs that are due by its schedule, one at a time. */
import type { PollSchedule } from "../contract/picking.ts";
import type { Arrival } from "../contract/message.ts";
import { clock, sleep } from "../time.ts";
import type { WatchEvent } from "./mail.ts";
import { nextRun } from "./schedule.ts";

/** Timers wait 24 days at most, and a changed system clock should have an effect soon. */
const MAX_SLEEP_MS = 60_000;
const MAX_MISSED = 100_000;

type PollLoopOptions = { poll: PollSchedule; notify: (sign: WatchEvent) => void };

/**
 * Runs at once and then whenever the schedule says, until the signal aborts. If a run takes longer than its interval,
 * `notify` gets the number of runs that were due meanwhile. They become one, which follows at once. `betweenRuns` is
 * called with the milliseconds until the next run.
 */
export async function* pollLoop(
  { poll, notify }: PollLoopOptions,
  run: () => AsyncGenerator<Arrival, void, undefined>,
  betweenRuns: (ms: number) => Promise<void>,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  for (let dueAt = clock.now(); !signal.aborted;) {
    let next = nextRun(poll, dueAt);
    const startedAt = performance.now();
    notify({ kind: "run", until: next });
    yield* run();
    let missed = 0;
    for (; next <= clock.now() && missed < MAX_MISSED; missed += 1) next = nextRun(poll, next);
    notify({ kind: "ran", ms: Math.round(performance.now() - startedAt), missed });
    dueAt = missed > 0 ? clock.now() : next;
    if (missed === 0) await betweenRuns(Math.max(0, dueAt - clock.now()));
    while (clock.now() < dueAt && (await sleep(Math.min(dueAt - clock.now(), MAX_SLEEP_MS), signal)));
  }
}
