/** Waiting that ends on a signal, deadlines, and the schedules of everything that tries again. */
import { Problem } from "./contract/problem.ts";

/** Resolves true after `ms`, or false at once when the signal aborts. Never rejects. */
export function slept(ms: number, signal: AbortSignal): Promise<boolean> {
  if (signal.aborted) return Promise.resolve(false);
  return new Promise((resolve) => {
    const finish = (whole: boolean) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      resolve(whole);
    };
    const stop = () => finish(false);
    const timer = setTimeout(finish, ms, true);
    signal.addEventListener("abort", stop, { once: true });
  });
}

/**
 * Waits for `work` at most `ms`. Past that it throws a `timeout` Problem naming `what`; when the signal aborts it throws the
 * signal's reason. `work` itself goes on: whoever started it ends it (by closing its socket, for instance).
 */
export async function within<T>(ms: number, what: string, work: Promise<T>, signal?: AbortSignal): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(new Problem("timeout", `${what} took longer than ${ms / 1000} seconds`)), ms);
  const stop = () => reject(signal?.reason);
  if (signal?.aborted) stop();
  signal?.addEventListener("abort", stop, { once: true });
  late.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
    work.catch(() => undefined);
  }
}

/** `over` must be called when the work is done: a signal that lives as long as the process would keep all that ever listened. */
export type Grace = { signal: AbortSignal; over(): void };

/** A signal that aborts `ms` after the given one: for work in flight that deserves a moment to finish. */
export function graceAfter(signal: AbortSignal, ms: number): Grace {
  const late = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const end = () => {
    timer = setTimeout(() => late.abort(signal.reason), ms).unref();
  };
  if (signal.aborted) end();
  else signal.addEventListener("abort", end, { once: true });
  return {
    signal: late.signal,
    over() {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
    },
  };
}

/**
 * A signal that aborts together with the given one, for work in which many listen for a short while: on a signal that everybody shares,
 * each that stops listening is searched for among all of them.
 */
export function following(signal: AbortSignal): Grace {
  const own = new AbortController();
  const end = () => own.abort(signal.reason);
  if (signal.aborted) end();
  else signal.addEventListener("abort", end, { once: true });
  return { signal: own.signal, over: () => signal.removeEventListener("abort", end) };
}

/** `ms` spread by up to a fifth either way, so that many waiters do not wake at once. */
export function jittered(ms: number): number {
  return Math.round(ms * (0.8 + Math.random() * 0.4));
}

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;

/** Waits before a mailbox is connected again, by the number of failures in a row; the last one repeats. */
const RECONNECT = [1, 2, 5, 10, 20, 40, 60, 120, 300].map((s) => s * SECOND);

/** The same for a mailbox that is polled: a minute at most, however far apart its runs are. */
const POLL = [1, 2, 5, 10, 20, 40, 50].map((s) => s * SECOND);

/**
 * Waits between the attempts of one delivery. The first ones bridge a restart of the endpoint, the later ones a weekend;
 * the last one repeats until RETRY_HOURS (72 by default) are over.
 */
const REDELIVER = [5 * SECOND, 30 * SECOND, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR];

/** Waits between failed logins: three tries in about ten minutes, then a person is needed. */
const LOGIN = [MINUTE, 10 * MINUTE];

/** Waits before a task whose mail server failed is tried again; the last one repeats. */
const TASK = [2, 5, 15, 30, 60, 120, 300].map((s) => s * SECOND);

/**
 * Waits between the attempts to send one message, on the server's 4xx or without a connection: quick at first, since greylisting ends
 * within minutes and somebody may be waiting, then as RFC 5321 section 4.5.4.1 has it; the last one repeats for three days.
 */
const SEND = [15 * SECOND, MINUTE, 2 * MINUTE, 5 * MINUTE, 15 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR];

/** Rests of an endpoint that failed several times in a row, before one delivery may try it; the last one repeats. */
const REST = [5, 15, 30, 60, 120, 300].map((s) => s * SECOND);

/** Milliseconds to wait after the n-th failure in a row (counting from 1), jittered. */
export type Backoff = Record<
  "reconnect" | "poll" | "redeliver" | "login" | "task" | "rest" | "send",
  (failures: number) => number
>;

/** The schedules above, every wait multiplied by `scale` (1 in production; tests compress time with it). */
export function backoffs(scale: number): Backoff {
  const on = (schedule: readonly number[]) => (failures: number) =>
    jittered(scale * (schedule[Math.min(Math.max(failures, 1), schedule.length) - 1] ?? MINUTE));
  return {
    reconnect: on(RECONNECT),
    poll: on(POLL),
    redeliver: on(REDELIVER),
    login: on(LOGIN),
    task: on(TASK),
    rest: on(REST),
    send: on(SEND),
  };
}

/** The schedules as they are in production. */
export const backoff: Backoff = backoffs(1);
