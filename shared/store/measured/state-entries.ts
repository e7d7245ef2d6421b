/**
 * How a mailbox was in the last day, as a text of entries of a fixed width: one for each quarter of an hour in which
 * something changed. From one entry to the next the mailbox stayed as it was, as far as its node was there.
 */
import { Problem } from "../../contract/problem.ts";

/** The length of a tick in milliseconds. */
export const TICK_MS = 15 * 60_000;
export const TICKS_PER_DAY = 96;
const MINUTE_MS = 60_000;
/** Minutes for which nobody may have a mailbox without a trace: so long a node takes to report and another to take over. */
export const UNNOTICED_MINUTES = 2;

/** Whether what a node reported at a time is still news. Both are in milliseconds since 1970. */
export function isNews(reportedAt: number, now: number): boolean {
  return now - reportedAt <= UNNOTICED_MINUTES * MINUTE_MS;
}

/** What a tick can show, from the best to the worst. `nobody`: no node had the mailbox. */
export const TICK_STATES = [
  "syncing",
  "listening",
  "polling",
  "initializing",
  "unverified",
  "throttled",
  "reconnecting",
  "needs_attention",
  "paused",
  "nobody",
] as const;
export type TickState = (typeof TICK_STATES)[number];

/**
 * `tick` counts quarters of an hour since 1970. `worst` is the worst state that began in it, `last` the one at its end.
 * `run` is the node's run that had the mailbox last, from this `minute` of the tick on. With `last` nobody it is the
 * minute in which the run left the mailbox.
 */
export type StateEntry = { tick: number; minute: number; worst: TickState; last: TickState; run: string };

/** What a node's run saw in one tick. A report with `last` nobody says that the run has left the mailbox. */
export type StateReport = Omit<StateEntry, "run"> & { mailbox: string };

/** Characters: tick 5, minute 1, worst 1, last 1, run 6. */
export const ENTRY_CHARACTERS = 14;
export const RUN_CHARACTERS = 6;

export function tickOf(at: number): { tick: number; minute: number } {
  return { tick: Math.floor(at / TICK_MS), minute: Math.floor((at % TICK_MS) / MINUTE_MS) };
}

export function worseOf(a: TickState, b: TickState): TickState {
  return rankOf(a) > rankOf(b) ? a : b;
}

export function rankOf(state: TickState): number {
  return TICK_STATES.indexOf(state);
}

/** A report as an entry's characters without the run. Each rank is one digit, so that characters compare as ranks do. */
export function encodeReport({ tick, minute, worst, last }: Omit<StateReport, "mailbox">): string {
  return encodeTick(tick) + minute.toString(36) + rankOf(worst) + rankOf(last);
}

export function encodeTick(tick: number): string {
  return tick.toString(36).padStart(5, "0");
}

/** Throws `store` for a text that is no list of entries. */
export function decodeEntries(text: string): StateEntry[] {
  if (!/^(?:[0-9a-z]{6}\d\d[\w-]{6})*$/.test(text))
    throw new Problem("store", "The store holds states of a mailbox that cannot be read", { retry: "never" });
  return Array.from({ length: text.length / ENTRY_CHARACTERS }, (_, n) => {
    const entry = text.slice(n * ENTRY_CHARACTERS, (n + 1) * ENTRY_CHARACTERS);
    return {
      tick: parseInt(entry.slice(0, 5), 36),
      minute: parseInt(entry.slice(5, 6), 36),
      worst: stateAt(entry.slice(6, 7)),
      last: stateAt(entry.slice(7, 8)),
      run: entry.slice(8),
    };
  });
}

const stateAt = (rank: string): TickState => TICK_STATES[Number(rank)] ?? "nobody";

/**
 * The text with a report of this run. `report` is from `encodeReport`, `floor` the tick a day ago. Ignored are the report
 * of a run that left what another run has, and a report about a tick before the newest. `redis/measured/measures.ts` has
 * the same as a script.
 */
export function addReport(
  text: string,
  { run, report, floor }: { run: string; report: string; floor: string },
): string {
  const newest = text.slice(-ENTRY_CHARACTERS);
  const [tick, isLeaving] = [report.slice(0, 5), report.slice(7) === LEFT];
  if ((isLeaving && newest.slice(8) !== run) || newest.slice(0, 5) > tick) return text;
  const isSameTick = newest.slice(0, 5) === tick;
  const kept = dropOld(isSameTick ? text.slice(0, -ENTRY_CHARACTERS) : text, floor);
  return kept + (isSameTick ? merge(newest, report, run) : report) + run;
}

const LEFT = String(rankOf("nobody"));

/** The characters of two reports about the same tick. */
function merge(newest: string, report: string, run: string): string {
  const [worst, last] = [newest.slice(6, 7), report.slice(7)];
  const [since, minute] = [newest.slice(5, 6), report.slice(5, 6)];
  const worse = worst > report.slice(6, 7) ? worst : report.slice(6, 7);
  const hasStayed = newest.slice(8) === run && newest.slice(7, 8) !== LEFT;
  const wasAlone =
    newest.slice(7, 8) === LEFT && last !== LEFT && parseInt(minute, 36) - parseInt(since, 36) > UNNOTICED_MINUTES;
  return report.slice(0, 5) + (hasStayed && last !== LEFT ? since : minute) + (wasAlone ? LEFT : worse) + last;
}

/** Without entries that are over a day old, except the last of them: it says how the day began. */
function dropOld(text: string, floor: string): string {
  let from = 0;
  while (text.length - from > ENTRY_CHARACTERS && text.slice(from + ENTRY_CHARACTERS).slice(0, 5) <= floor)
    from += ENTRY_CHARACTERS;
  return text.slice(from);
}
