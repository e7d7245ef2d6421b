/**
 * Measures how a stranger answers, and computes how many visits it may have at once. A stranger is a remote party whose
 * answer a task waits for: an endpoint, a mail host, a relay, a mailbox. A visit is one such wait.
 */

import type { Problem } from "../../shared/contract/problem.ts";

/** Problems that mean that a server did not answer. With any other Problem it answered, or was not asked. */
export const NO_ANSWER: ReadonlySet<Problem["code"]> = new Set(["timeout", "connect", "dns", "unavailable"]);

/** How many visits at once: before the first answer, while the stranger is silent, and at most. */
export type Bounds = { initial: number; min: number; max: number };

/**
 * `unknown`: it has never answered. `silent`: it owes an answer for longer than it usually takes, or it has failed
 * since its last answer.
 */
export type Standing = "unknown" | "answering" | "silent";

/** `unclear`: the visit ended for a reason of this process, so it shows nothing about the stranger. */
export type VisitEnd = "answered" | "failed" | "unclear";

/**
 * A visit counts from `begin`. From `start` on the stranger owes an answer. Each `progress` reports a part of the
 * answer. A second `end` is ignored.
 */
export type OpenVisit = { start(): void; progress(): void; end(how: VisitEnd): void };

export interface Answers {
  readonly inFlight: number;
  /** When the last visit began or ended, by the same clock as `now`. */
  readonly usedAt: number;
  standing(): Standing;
  /** How long it has been silent, in milliseconds; 0 if it is not. */
  silentMs(): number;
  /** How many visits it may have at once now. */
  limit(): number;
  /** Answers per second over the last few seconds. */
  rate(): number;
  begin(): OpenVisit;
}

/** A stranger is silent if it owes an answer for this long, and for a multiple of its usual time. */
const PATIENCE = { ms: 1_000, factor: 3 };
/** An answer that takes this much longer than the fastest one means that there are too many visits at once. */
const CONGESTED = { factor: 3, ms: 250 };
/** The weight of one answer in the usual time, and how slowly the fastest time is forgotten. */
const WEIGHT = { typical: 0.2, fastest: 0.01 };
const RATE_WINDOW_MS = 2_000;
/**
 * A silent stranger gets one more visit after one patience, after three, seven and fifteen, because it may have lost
 * only the earlier ones.
 */
const MAX_PROBES = 4;

/** A site is never silent itself, because its strangers may take different times to answer. */
type AnswersOptions = { now: () => number; isSite?: boolean };

export function answersOf(bounds: Bounds, { now, isSite = false }: AnswersOptions): Answers {
  const speed = answerSpeed();
  const rate = answerRate(now);
  const limit = adaptiveLimit(bounds);
  const debts = owedAnswers(now, speed.patienceMs);
  let usedAt = now();

  return {
    get inFlight() {
      return debts.visits.size;
    },
    get usedAt() {
      return usedAt;
    },
    silentMs: () => (isSite ? 0 : debts.silentMs()),
    standing() {
      if (!isSite && debts.silentMs() > 0) return "silent";
      return debts.hasAnswered() ? "answering" : "unknown";
    },
    limit() {
      if (isSite || debts.silentMs() === 0) return limit.current();
      return Math.min(bounds.max, bounds.min + debts.probes());
    },
    rate: rate.perSecond,
    begin() {
      const visit: OwedAnswer = { startedAt: undefined };
      debts.visits.add(visit);
      usedAt = now();
      return {
        start: () => void (visit.startedAt ??= now()),
        progress: () => debts.visits.has(visit) && debts.onAnswer(),
        end(how) {
          if (!debts.visits.has(visit)) return;
          const isUsed = 2 * debts.visits.size >= limit.current();
          debts.visits.delete(visit);
          usedAt = now();
          const startedAt = visit.startedAt ?? usedAt;
          if (how === "answered") {
            debts.onAnswer();
            rate.count();
            limit.onAnswer({ isCongested: speed.count(usedAt - startedAt) && !isSite, isUsed });
          } else if (how === "failed") {
            debts.onFailure(startedAt);
            limit.onFailure();
          }
        },
      };
    },
  };
}

/**
 * The limit starts at `initial`. It grows by one, up to `max`, with each answer that came while at least half of it was
 * used. It shrinks when answers become slower, but not below its start, and each failure halves it.
 */
function adaptiveLimit({ initial, min, max }: Bounds) {
  let limit = Math.min(initial, max);
  return {
    current: () => Math.floor(limit),
    onAnswer({ isCongested, isUsed }: { isCongested: boolean; isUsed: boolean }): void {
      if (isCongested) limit = Math.max(Math.min(initial, max), limit - 1);
      else if (isUsed) limit = Math.min(max, limit + 1);
    },
    onFailure(): void {
      limit = Math.max(min, limit / 2);
    },
  };
}

type OwedAnswer = { startedAt: number | undefined };

/** The running visits, and since when the stranger owes answers. */
function owedAnswers(now: () => number, patienceMs: () => number) {
  const visits = new Set<OwedAnswer>();
  let answeredAt: number | undefined;
  /** The start of the first visit that failed since the last answer. */
  let failingSince: number | undefined;

  const owingMs = () => {
    for (const { startedAt } of visits) {
      if (startedAt !== undefined) return now() - Math.max(startedAt, answeredAt ?? startedAt);
    }
    return 0;
  };

  return {
    visits,
    hasAnswered: () => answeredAt !== undefined,
    silentMs(): number {
      if (failingSince !== undefined) return now() - failingSince;
      const owing = owingMs();
      return owing > patienceMs() ? owing : 0;
    },
    probes: () => Math.min(MAX_PROBES, Math.floor(Math.log2(1 + owingMs() / patienceMs()))),
    onAnswer(): void {
      answeredAt = now();
      failingSince = undefined;
    },
    onFailure(startedAt: number): void {
      failingSince ??= startedAt;
    },
  };
}

/** Measures how long answers take. */
function answerSpeed() {
  let typical = 0;
  let fastest = Infinity;
  return {
    patienceMs: () => Math.max(PATIENCE.ms, PATIENCE.factor * typical),
    /** Counts one answer. Returns true if it took much longer than others. */
    count(ms: number): boolean {
      const isCongested = ms > CONGESTED.factor * fastest + CONGESTED.ms;
      typical = typical === 0 ? ms : typical + WEIGHT.typical * (ms - typical);
      fastest = ms < fastest ? ms : fastest + WEIGHT.fastest * (ms - fastest);
      return isCongested;
    },
  };
}

/** Answers per second. Older ones count less and less. */
function answerRate(now: () => number) {
  let perSecond = 0;
  let at = now();
  const decay = () => {
    const time = now();
    perSecond *= Math.exp((at - time) / RATE_WINDOW_MS);
    at = time;
  };
  return {
    count() {
      decay();
      perSecond += 1_000 / RATE_WINDOW_MS;
    },
    perSecond() {
      decay();
      return perSecond;
    },
  };
}
