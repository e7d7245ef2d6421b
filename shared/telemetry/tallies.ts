/**
 * What this node counts of deliveries, in periods of five minutes. It takes bounded memory, and the store gets it in
 * batches. So all nodes show the same numbers, and a killed node loses some seconds of them.
 */
import { asProblem } from "../contract/problem.ts";
import { clock, sleep, withTimeout } from "../time.ts";
import type { Fact, Facts } from "./events.ts";

/** The length of one period in milliseconds. */
export const PERIOD_MS = 5 * 60_000;

/**
 * The numbers of one period. `at`: when it began, in milliseconds since 1970. `add` is added to what is stored, `set`
 * replaces it. `latencies`: of the last delivered message of a mailbox, in milliseconds.
 */
export type Tally = {
  at: number;
  add: Record<string, number>;
  set: Record<string, number>;
  latencies: { mailbox: string; ms: number }[];
};

export const DELIVERED = "delivered";
/** Deliveries that wait for another attempt, and parked ones, at the last count in the period. */
export const WAITING = "waiting";
export const PARKED = "parked";
const LISTENING = "listening:";
const LATENCY = "latency:";
/** Latencies within so many parts of each other are one count: a twentieth. */
const STEP = Math.log(1.05);
/** About 100 days. No latency has a larger class, so a period has at most 470 classes. */
const LAST_CLASS = 470;

/** The number under which a latency of `ms` is counted. */
export function latencyName(ms: number): string {
  return `${LATENCY}${Math.min(LAST_CLASS, Math.ceil(Math.log(Math.max(1, ms)) / STEP))}`;
}

/** The 95th percentile of counted latencies in milliseconds, at most a twentieth too high; null without any. */
export function percentile95(periods: readonly ReadonlyMap<string, number>[]): number | null {
  const classes = new Map<number, number>();
  for (const period of periods)
    for (const [name, n] of period) {
      if (!name.startsWith(LATENCY)) continue;
      const one = Number(name.slice(LATENCY.length));
      classes.set(one, (classes.get(one) ?? 0) + n);
    }
  let left = 0.95 * [...classes.values()].reduce((sum, n) => sum + n, 0);
  if (left === 0) return null;
  for (const [one, n] of [...classes].toSorted(([a], [b]) => a - b)) {
    left -= n;
    if (left <= 1e-9) return Math.exp(one * STEP);
  }
  return null;
}

/** The number under which this run of a node says how many mailboxes it listens to. */
export const listeningName = (run: string): string => LISTENING + run;

/** The seconds in a period fit into three digits. */
const SECONDS = 1_000;
/** A node that has not counted for so long in a period has stopped, and others have its mailboxes. */
const STOPPED_SECONDS = 120;

/** A number together with the second of the period in which it was counted. */
export function gaugeOf(n: number, at: number): number {
  return n * SECONDS + Math.floor((at % PERIOD_MS) / 1000);
}

/** How many mailboxes all nodes listened to at the end of a period; undefined if none has counted. */
export function listeningIn(period: ReadonlyMap<string, number>): number | undefined {
  const gauges = [...period].filter(([name]) => name.startsWith(LISTENING)).map(([, gauge]) => gauge);
  if (gauges.length === 0) return undefined;
  const newest = Math.max(...gauges.map((gauge) => gauge % SECONDS));
  const alive = gauges.filter((gauge) => newest - (gauge % SECONDS) < STOPPED_SECONDS);
  return alive.reduce((sum, gauge) => sum + Math.floor(gauge / SECONDS), 0);
}

/** When the period of this time began, both in milliseconds since 1970. */
export function periodOf(at: number): number {
  return at - (at % PERIOD_MS);
}

const WRITE_EVERY_MS = 10_000;
const WRITE_MS = 10_000;
/** Periods that may wait while the store does not answer: two hours. Older ones are lost. */
const MAX_PERIODS = 24;
/** Mailboxes whose latency may wait. It is one number of the newest message, so the others get theirs with the next. */
const MAX_LATENCIES = 20_000;
const BATCH = 1_000;

type TalliesDeps = { facts: Facts; count: (tally: Tally) => Promise<void> };

/** A part that counts deliveries until the signal aborts, and writes the counts every few seconds and at the end. */
export function tallies(deps: TalliesDeps): { name: string; run: (signal: AbortSignal) => Promise<void> } {
  return { name: "tallies", run: (signal) => recordTallies(deps, signal) };
}

async function recordTallies({ facts, count }: TalliesDeps, signal: AbortSignal): Promise<void> {
  const waiting = new Map<number, Record<string, number>>();
  const latencies = new Map<string, number>();
  let failing = false;
  const unsubscribe = facts.subscribe((fact) => countFact(fact, waiting, latencies));
  const write = async (tally: Tally) => withTimeout(WRITE_MS, "Writing the counts of deliveries", count(tally));
  // What comes while it writes is for the next time: under load the writing would never end.
  const flush = async () => {
    const periods = Array.from(waiting.keys());
    const newest = Array.from(latencies, ([mailbox, ms]) => ({ mailbox, ms }));
    latencies.clear();
    try {
      for (const at of periods) {
        const add = waiting.get(at) ?? {};
        // What was sent is not sent again, also when its answer is lost: a count twice too high misleads more than a gap.
        waiting.delete(at);
        await write({ at, add, set: {}, latencies: newest.splice(0, BATCH) });
      }
      while (newest.length > 0)
        await write({ at: periodOf(clock.now()), add: {}, set: {}, latencies: newest.splice(0, BATCH) });
      failing = false;
    } catch (error) {
      const { code, message } = asProblem(error);
      const what = "writing the counts of deliveries";
      if (!failing) facts.emit({ kind: "service.failed", what, failure: { code, cause: message } });
      failing = true;
    }
  };
  while (await sleep(WRITE_EVERY_MS, signal)) await flush();
  unsubscribe();
  await flush();
}

function countFact(fact: Fact, waiting: Map<number, Record<string, number>>, latencies: Map<string, number>): void {
  if (fact.kind !== "mail.delivered") return;
  const at = periodOf(clock.now());
  const counts = waiting.get(at) ?? {};
  waiting.set(at, counts);
  counts[DELIVERED] = (counts[DELIVERED] ?? 0) + 1;
  const [oldest] = waiting.keys();
  if (waiting.size > MAX_PERIODS && oldest !== undefined) waiting.delete(oldest);
  if (fact.seenMs === undefined) return;
  const name = latencyName(fact.seenMs);
  counts[name] = (counts[name] ?? 0) + 1;
  if (latencies.has(fact.mailbox) || latencies.size < MAX_LATENCIES) latencies.set(fact.mailbox, fact.seenMs);
}
