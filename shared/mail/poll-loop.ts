/** The rhythm of a polled mailbox: runs that fall due by its schedule, one at a time. */
import type { Poll } from "../contract/picking.ts";
import type { Arrival } from "../contract/message.ts";
import { slept } from "../time.ts";
import type { WatchSign } from "./mail.ts";
import { nextRun } from "./schedule.ts";

/** Timers know 24 days at most, and a clock that was set should show before long. */
const LONGEST_SLEEP_MS = 60_000;
const MOST_COUNTED = 100_000;

type Rhythm = { poll: Poll; tell: (sign: WatchSign) => void };

/**
 * Runs at once and then whenever the schedule says, until the signal aborts. A run that takes longer than its interval is told
 * with how many fell due meanwhile; those become one, which follows at once. `rest` is what happens until the next, given how
 * long that is in milliseconds.
 */
export async function* inRuns(
  { poll, tell }: Rhythm,
  run: () => AsyncGenerator<Arrival, void, undefined>,
  rest: (ms: number) => Promise<void>,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  for (let dueAt = Date.now(); !signal.aborted;) {
    let next = nextRun(poll, dueAt);
    const began = performance.now();
    tell({ kind: "run", until: next });
    yield* run();
    let missed = 0;
    for (; next <= Date.now() && missed < MOST_COUNTED; missed += 1) next = nextRun(poll, next);
    tell({ kind: "ran", ms: Math.round(performance.now() - began), missed });
    dueAt = missed > 0 ? Date.now() : next;
    if (missed === 0) await rest(Math.max(0, dueAt - Date.now()));
    while (Date.now() < dueAt && (await slept(Math.min(dueAt - Date.now(), LONGEST_SLEEP_MS), signal)));
  }
}
