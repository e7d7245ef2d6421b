/**
 * The login rate limiter. It opens connections to one mail host at a bounded rate, which follows how the host answers.
 * So a restart of thousands of mailboxes is no login storm, and a failover of some hundreds takes little time.
 */
import { type WaitingLine, waitingLine } from "../../concurrency/waiting-line.ts";
import { asProblem, type Problem } from "../../contract/problem.ts";
import { clock, jitter } from "../../time.ts";

export interface LoginRateLimiter {
  /** Resolves when a connection to `host` may be opened. Rejects with the signal's reason when it aborts first. */
  wait(host: string, signal: AbortSignal): Promise<void>;
  /** The result of an opened connection: the host accepted it or turned it away. */
  report(host: string, accepted: boolean): void;
}

/** What a client of mail hosts needs to keep the rate. Without it, connections are opened at once. */
export type LoginRateDeps = { waitForLoginRate?: LoginRateLimiter["wait"]; reportLogin?: LoginRateLimiter["report"] };

/** A host that gives these problems to a new connection is getting too many connections. */
const OVERLOAD_CODES = new Set<Problem["code"]>([
  "too_many_connections",
  "throttled",
  "unavailable",
  "connect",
  "timeout",
]);

/** Opens a connection (up to its login) when the rate allows it, and reports the result. */
export async function withLoginRate<T>(
  { waitForLoginRate, reportLogin }: LoginRateDeps,
  host: string,
  open: () => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  await waitForLoginRate?.(host, signal);
  try {
    const opened = await open();
    reportLogin?.(host, true);
    return opened;
  } catch (error) {
    if (!signal.aborted && OVERLOAD_CODES.has(asProblem(error).code)) reportLogin?.(host, false);
    throw error;
  }
}

/** Connections a second to a host of which nothing is known yet. After a quiet time as many may open at once. */
const INITIAL_RATE = 20;
const RATE_INCREASE = 2;
/** The lowest rate that refusals lead to. */
const MIN_RATE = 1;
/** The rate of a host that was unused for this long starts anew. */
const HOST_EXPIRY_MS = 60_000;
const MAX_HOSTS = 1_000;

type HostState = {
  pace: number;
  nextAt: number;
  waiting: WaitingLine<undefined, void>;
  cancelWake: (() => void) | undefined;
};

/**
 * Admits callers in the order in which they came, jittered: INITIAL_RATE connections a second to each host, more after
 * each success, up to `perSecond`. Each refusal halves the rate.
 */
export function loginRateLimiter(perSecond: number): LoginRateLimiter {
  const hosts = new Map<string, HostState>();
  const initialRate = Math.min(INITIAL_RATE, perSecond);

  const getHost = (host: string): HostState => {
    const now = clock.monotonic();
    const cached = hosts.get(host);
    if (cached && cached.nextAt > now - HOST_EXPIRY_MS) return cached;
    if (hosts.size >= MAX_HOSTS) evictIdleHosts(hosts, now - HOST_EXPIRY_MS);
    const state = {
      pace: initialRate,
      nextAt: now - HOST_EXPIRY_MS,
      waiting: waitingLine<undefined, void>(),
      cancelWake: undefined,
    };
    hosts.set(host, state);
    return state;
  };

  return {
    async wait(host, signal) {
      signal.throwIfAborted();
      const state = getHost(host);
      const admitted = state.waiting.wait(undefined, {}, signal);
      admitDue(state);
      await admitted;
    },
    report(host, accepted) {
      const state = hosts.get(host);
      if (!state) return;
      state.pace = accepted
        ? Math.min(perSecond, state.pace + RATE_INCREASE)
        : Math.max(Math.min(MIN_RATE, perSecond), state.pace / 2);
    },
  };
}

function admitDue(host: HostState): void {
  host.cancelWake?.();
  const now = clock.monotonic();
  const gap = 1_000 / host.pace;
  // How many may open at once after a quiet time.
  host.nextAt = Math.max(host.nextAt, now - gap * (Math.max(1, Math.floor(Math.min(INITIAL_RATE, host.pace))) - 1));
  for (let next = host.waiting.first(); next && host.nextAt <= now; next = host.waiting.first()) {
    host.nextAt += gap;
    next.admit();
  }
  if (host.waiting.size > 0) host.cancelWake = clock.wakeAfter(jitter(host.nextAt - now), () => admitDue(host));
}

function evictIdleHosts(hosts: Map<string, HostState>, before: number): void {
  for (const [host, { nextAt, waiting }] of hosts) if (nextAt < before && waiting.size === 0) hosts.delete(host);
}
