/** The last day of a mailbox as 96 ticks of 15 minutes, of which each shows the worst state in it. */
import type { NodeRun } from "../../../../shared/store/measured/measures.ts";
import {
  isNews,
  type StateEntry,
  TICK_MS,
  TICKS_PER_DAY,
  type TickState,
  tickOf,
  UNNOTICED_MINUTES,
  worseOf,
} from "../../../../shared/store/measured/state-entries.ts";

/** Null: nothing is known yet, because the mailbox or this record of it is younger. */
export type Tick = TickState | null;

export type DayOfMailbox = {
  states: readonly StateEntry[];
  runs: ReadonlyMap<string, NodeRun>;
  /** When the mailbox was paused, if it is paused now. In milliseconds since 1970. */
  pausedSince: number | null;
  now: number;
};

const MINUTE_MS = 60_000;
const UNNOTICED_MS = UNNOTICED_MINUTES * MINUTE_MS;

/** The ticks of the last day, the oldest first. The last one is not over yet. */
export function ticksOf(day: DayOfMailbox): Tick[] {
  const first = tickOf(day.now).tick - TICKS_PER_DAY + 1;
  const entries = new Map(day.states.map((entry) => [entry.tick, entry]));
  let before = day.states.findLast(({ tick }) => tick < first);
  return Array.from({ length: TICKS_PER_DAY }, (_, n) => {
    const entry = entries.get(first + n);
    const state = stateOfTick(day, first + n, { before, entry });
    before = entry ?? before;
    const isPaused = day.pausedSince !== null && day.pausedSince < (first + n + 1) * TICK_MS;
    return isPaused ? "paused" : state;
  });
}

/** `before` is the last entry before the tick, `entry` the one of the tick itself. */
type Known = { before: StateEntry | undefined; entry: StateEntry | undefined };

function stateOfTick(day: DayOfMailbox, tick: number, known: Known): Tick {
  const { before, entry } = known;
  const states = [...(before && before.last !== "nobody" ? [before.last] : []), ...(entry ? [entry.worst] : [])];
  if (!before && !entry) return null;
  const from = before || !entry ? tick * TICK_MS : tick * TICK_MS + entry.minute * MINUTE_MS;
  const until = Math.min((tick + 1) * TICK_MS, day.now);
  return hasGap(day, known, { from, until }) ? "nobody" : states.reduce(worseOf, "syncing");
}

type Span = { from: number; until: number };

/** Whether nobody had the mailbox for longer than nodes need to report or to take over. */
function hasGap(day: DayOfMailbox, known: Known, tick: Span): boolean {
  const spans = spansOf(day, known, tick).filter(({ from, until }) => from < until);
  let covered = 0;
  let reached = tick.from;
  for (const { from, until } of spans.toSorted((a, b) => a.from - b.from)) {
    covered += Math.max(0, until - Math.max(from, reached));
    reached = Math.max(reached, until);
  }
  if (tick.until - tick.from - covered > UNNOTICED_MS) return true;
  return tick.until === day.now && !isNewsFresh(day, known);
}

/** The times in the tick for which it is known how the mailbox was. */
function spansOf({ runs }: DayOfMailbox, { before, entry }: Known, tick: Span): Span[] {
  const within = ({ from, until }: Span): Span => ({
    from: Math.max(from, tick.from),
    until: Math.min(until, tick.until),
  });
  const minute = entry ? entry.tick * TICK_MS + entry.minute * MINUTE_MS : tick.until;
  const spans: Span[] = [];
  if (before?.last === "paused") spans.push({ from: tick.from, until: minute });
  else if (before && before.last !== "nobody") {
    const run = runs.get(before.run);
    const hasLeft = entry?.last === "nobody" && entry.run === before.run;
    if (run) spans.push(within({ from: run.from, until: hasLeft ? Math.min(run.until, minute) : run.until }));
  }
  if (entry?.last === "paused") spans.push({ from: minute, until: tick.until });
  else if (entry) {
    const until = runs.get(entry.run)?.until ?? 0;
    // It left the mailbox in the minute of the entry, and had it before.
    if (entry.last === "nobody") spans.push(within({ from: tick.from, until: Math.min(until, minute) }));
    else spans.push(within({ from: minute, until }));
  }
  return spans;
}

/** Whether the node that had the mailbox last still reports. */
function isNewsFresh({ runs, now }: DayOfMailbox, { before, entry }: Known): boolean {
  const newest = entry ?? before;
  if (newest?.last === "paused") return true;
  const until = newest && newest.last !== "nobody" ? (runs.get(newest.run)?.until ?? 0) : 0;
  return isNews(until, now);
}
