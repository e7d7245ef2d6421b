/** Sends notifications to the addresses of subscriptions, again where that fails, and slower or not at all to slow ones. */
import { randomInt } from "node:crypto";

export type PushSettings = {
  /** How long a minute of the rules below takes. */
  minuteMs: number;
  /** So long after it happened something is told. */
  delayMs: number;
  /** So many notifications at most in one request. */
  batch: number;
  /** So many requests at most at the same time to one address. */
  atOnce: number;
  /** Every notification comes so many times. */
  times: number;
  /** Notifications of one request are in any order. */
  shuffles: boolean;
  /** An answer that takes longer is slow. */
  slowMs: number;
  /** An answer that takes longer is no answer. */
  timeoutMs: number;
  /** The pauses before another try, in minutes; after the last one a notification is given up. */
  retryMinutes: number[];
  /** Of fewer answers nothing is concluded. */
  leastAnswers: number;
};

export const PUSH: PushSettings = {
  minuteMs: 60_000,
  delayMs: 20,
  batch: 20,
  atOnce: 8,
  times: 1,
  shuffles: false,
  slowMs: 3000,
  timeoutMs: 10_000,
  retryMinutes: [0.1, 0.5, 1, 5, 15, 60, 159],
  leastAnswers: 10,
};

/** More of the answers within ten minutes than this are slow: notifications come ten minutes late. */
const SLOW_SHARE = 0.1;
/** More of them than this took too long: notifications are dropped for ten minutes. */
const DROP_SHARE = 0.15;
const WINDOW_MINUTES = 10;

/** One request to an address, as it ended. */
export type Delivered = { at: Date; url: string; count: number; status: number | "dropped" | "failed"; ms: number };

type Answered = { at: number; ms: number };
type Place = { answers: Answered[]; droppedUntil: number };
type Waiting = { notification: object; tries: number };

export type Deliveries = {
  settings: PushSettings;
  log: Delivered[];
  /** Puts a notification into the queue of an address. */
  tell(url: string, notification: object): void;
  /** What the rules say of an address now. */
  pace(url: string): "normal" | "slow" | "drop";
  /** Ends what is under way; what waits is forgotten. */
  stop(): void;
};

/** How the addresses of each origin answer, and what follows from it. */
function newPaces(settings: PushSettings) {
  const places = new Map<string, Place>();
  const placeOf = (url: string): Place => {
    const { origin } = new URL(url);
    const place = places.get(origin) ?? { answers: [], droppedUntil: 0 };
    places.set(origin, place);
    return place;
  };
  return {
    answered: (url: string, ms: number) => void placeOf(url).answers.push({ at: Date.now(), ms }),
    of(url: string): "normal" | "slow" | "drop" {
      const place = placeOf(url);
      const now = Date.now();
      if (place.droppedUntil > now) return "drop";
      place.answers = place.answers.filter(({ at }) => at > now - WINDOW_MINUTES * settings.minuteMs);
      const { length } = place.answers;
      if (length < settings.leastAnswers) return "normal";
      const share = (overMs: number) => place.answers.filter(({ ms }) => ms >= overMs).length / length;
      if (share(settings.timeoutMs) > DROP_SHARE) {
        place.droppedUntil = now + WINDOW_MINUTES * settings.minuteMs;
        return "drop";
      }
      return share(settings.slowMs) > SLOW_SHARE ? "slow" : "normal";
    },
  };
}

async function post(url: string, body: object, signal: AbortSignal): Promise<number | "failed"> {
  const headers = { "content-type": "application/json; charset=utf-8" };
  try {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body), signal });
    await answer.arrayBuffer();
    return answer.status;
  } catch {
    // Whatever it is, the address has not answered; the log says so.
    return "failed";
  }
}

export function newDeliveries(): Deliveries {
  const settings = { ...PUSH };
  const log: Delivered[] = [];
  const paces = newPaces(settings);
  const queues = new Map<string, Waiting[]>();
  const timers = new Set<NodeJS.Timeout>();
  let stopping = new AbortController();

  const later = (ms: number, work: () => void): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      work();
    }, ms);
    timers.add(timer);
  };
  const queue = (url: string, one: Waiting, delayMs: number): void => {
    const waiting = queues.get(url);
    if (waiting) waiting.push(one);
    else {
      queues.set(url, [one]);
      later(delayMs, () => void flush(url));
    }
  };
  const flush = async (url: string): Promise<void> => {
    const waiting = queues.get(url) ?? [];
    queues.delete(url);
    const { signal } = stopping;
    let at = 0;
    const lane = async (): Promise<void> => {
      while (at < waiting.length && !signal.aborted) {
        const some = waiting.slice(at, (at += settings.batch));
        await request(url, settings.shuffles ? shuffled(some) : some);
      }
    };
    await Promise.all(Array.from({ length: settings.atOnce }, lane));
  };
  const request = async (url: string, some: Waiting[]): Promise<void> => {
    const done = (status: Delivered["status"], ms: number) =>
      void log.push({ at: new Date(), url, count: some.length, status, ms });
    if (paces.of(url) === "drop") return done("dropped", 0);
    const start = performance.now();
    const { signal } = stopping;
    const body = { value: some.map(({ notification }) => notification) };
    const status = await post(url, body, AbortSignal.any([signal, AbortSignal.timeout(settings.timeoutMs)]));
    const ms = performance.now() - start;
    if (signal.aborted) return undefined;
    paces.answered(url, ms);
    done(status, ms);
    if (typeof status === "number" && status >= 200 && status < 300) return undefined;
    for (const one of some) {
      const pause = settings.retryMinutes[one.tries];
      const again = { ...one, tries: one.tries + 1 };
      if (pause !== undefined) later(pause * settings.minuteMs, () => queue(url, again, settings.delayMs));
    }
    return undefined;
  };
  return {
    settings,
    log,
    pace: paces.of,
    tell(url, notification) {
      const late = paces.of(url) === "slow" ? WINDOW_MINUTES * settings.minuteMs : 0;
      for (let time = 0; time < settings.times; time++) {
        const one = { notification, tries: 0 };
        if (late > 0) later(late, () => queue(url, one, 0));
        else queue(url, one, settings.delayMs);
      }
    },
    stop() {
      stopping.abort();
      stopping = new AbortController();
      for (const timer of timers) clearTimeout(timer);
      timers.clear();
      queues.clear();
    },
  };
}

function shuffled<One>(list: One[]): One[] {
  const keyed = list.map((one) => ({ one, key: randomInt(1_000_000) }));
  return keyed.toSorted((a, b) => a.key - b.key).map(({ one }) => one);
}
