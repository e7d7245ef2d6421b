/** The clock, waiting with a signal, deadlines, and the schedules of all retries. */
import { Problem } from "./contract/problem.ts";

/** Everything that is due at some time is due by this clock. A deadline for an answer is measured in real time. */
export type Clock = {
  /** Milliseconds since 1970. */
  now(): number;
  /** Milliseconds that only grow, also when somebody sets the machine's clock. */
  monotonic(): number;
  /** Calls `wake` once, `ms` from now. The function that it returns cancels the call. */
  wakeAfter(ms: number, wake: () => void): () => void;
};

const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  wakeAfter(ms, wake) {
    const timer = setTimeout(wake, ms);
    return () => clearTimeout(timer);
  },
};
let installed = systemClock;

export const clock: Clock = {
  now: () => installed.now(),
  monotonic: () => installed.monotonic(),
  wakeAfter: (ms, wake) => installed.wakeAfter(ms, wake),
};

/** For tests: all time comes from this clock until the returned object is disposed of. */
export function installClock(other: Clock): Disposable {
  installed = other;
  return { [Symbol.dispose]: () => void (installed = systemClock) };
}

/** Resolves true after `ms`, or false at once when the signal aborts. Never rejects. */
export function sleep(ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const finish = (isWhole: boolean) => {
      cancel();
      signal.removeEventListener("abort", stop);
      resolve(isWhole);
    };
    const stop = () => finish(false);
    const cancel = clock.wakeAfter(ms, () => finish(true));
    signal.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Waits for `work` at most `ms`, then throws a `timeout` Problem naming `what`. When the signal aborts, it throws the
 * signal's reason. `work` itself continues: its owner must end it (for example by closing its socket).
 */
export async function withTimeout<T>(ms: number, what: string, work: Promise<T>, signal?: AbortSignal): Promise<T> {
  const { promise: timeout, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Problem("timeout", `${what} took longer than ${ms / 1000} seconds`)), ms);
  const stop = () => reject(signal?.reason);
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true });
  timeout.catch(() => undefined);
  try {
    return await Promise.race([work, timeout]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
    work.catch(() => undefined);
  }
}

/** `ms`, randomly changed by up to a fifth either way, so that many waiters do not wake at once. */
export function jitter(ms: number): number {
  return Math.round(ms * (0.8 + Math.random() * 0.4));
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** Waits before a mailbox is connected again, by the number of failures in a row. The last one repeats. */
const RECONNECT = [1, 2, 5, 10, 20, 40, 60, 120, 300].map((s) => s * SECOND);

/** The same for a polled mailbox: at most a minute, whatever its interval is. */
const POLL = [1, 2, 5, 10, 20, 40, 50].map((s) => s * SECOND);

/**
 * Waits between the attempts of one delivery. The first ones bridge a restart of the endpoint, the later ones a
 * weekend. The last one repeats until RETRY_HOURS (72 by default) are over.
 */
const REDELIVER = [5 * SECOND, 30 * SECOND, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR];

/** Waits between failed logins: three attempts in about ten minutes, then a person is needed. */
const LOGIN = [MINUTE, 10 * MINUTE];

/** Waits after a login that was refused in words that nobody knows: the password may be wrong, or the server. */
const UNCLEAR_LOGIN = [15 * SECOND, 2 * MINUTE, 10 * MINUTE, 15 * MINUTE];

/** Waits before a task whose mail server failed is tried again. The last one repeats. */
const TASK = [2, 5, 15, 30, 60, 120, 300].map((s) => s * SECOND);

/**
 * Waits between the attempts to send one message, after a 4xx of the server or without a connection. They are short at
 * first, because greylisting ends within minutes and somebody may be waiting, then as RFC 5321 section 4.5.4.1 says.
 * The last one repeats for three days.
 */
const SEND = [15 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR];

/**
 * Waits before a sent message is copied to the Sent folder. Many providers put a copy there themselves, some seconds
 * later. The second wait is for a mailbox whose provider was seen to do so, and before a copy is looked at again.
 */
const SENT_COPY = [30 * SECOND, 10 * MINUTE];

/**
 * How long the circuit breaker pauses an endpoint that failed several times in a row. Then one delivery may try it. The
 * last one repeats.
 */
const ENDPOINT_PAUSE = [5, 15, 30, 60, 120, 300].map((s) => s * SECOND);

/** Milliseconds to wait after the n-th failure in a row (counting from 1), jittered. */
export type Backoff = Record<
  "reconnect" | "poll" | "redeliver" | "login" | "unclearLogin" | "task" | "rest" | "send" | "sentCopy",
  (failures: number) => number
>;

/** The schedules above with every wait multiplied by `scale` (1 in production; tests use less). */
export function backoffs(scale: number): Backoff {
  const fromSchedule = (schedule: readonly number[]) => (failures: number) =>
    jitter(scale * (schedule[Math.min(Math.max(failures, 1), schedule.length) - 1] ?? MINUTE));
  return {
    reconnect: fromSchedule(RECONNECT),
    poll: fromSchedule(POLL),
    redeliver: fromSchedule(REDELIVER),
    login: fromSchedule(LOGIN),
    unclearLogin: fromSchedule(UNCLEAR_LOGIN),
    task: fromSchedule(TASK),
    rest: fromSchedule(ENDPOINT_PAUSE),
    send: fromSchedule(SEND),
    sentCopy: fromSchedule(SENT_COPY),
  };
}

/** The schedules as in production. */
export const backoff: Backoff = backoffs(1);
