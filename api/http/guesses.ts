/**
 * Wrong credentials are counted by address. Each address may be wrong 100 times, and once more every six seconds. The
 * answers to it come more and more slowly, and then only 429. Other addresses notice nothing of this. Nodes that share a
 * store count together: a node learns with each wrong credential how many tries are left over all nodes. So beyond those
 * each node may take one.
 */
import ipaddr from "ipaddr.js";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Tries, WrongCredentials } from "../../shared/store/access-rules.ts";
import { clock, sleep, withTimeout } from "../../shared/time.ts";

export type GuessLimiter = {
  /** Throws `guesses` while this address may not try again. Call it before a comparison that a guess could win. */
  check(address: string): void;
  /**
   * Counts one wrong credential. Resolves after the delay of this address, at most 0.4 s. Throws `guesses` if the
   * address had no try left.
   */
  refuse(address: string, signal: AbortSignal): Promise<void>;
};

const MAX_TRIES = 100;
const REFILL_MS = 6_000;
const TRIES: Tries = { size: MAX_TRIES, refillMs: REFILL_MS };
/** While the store does not answer, a node counts for itself. */
const STORE_TIMEOUT_MS = 1_000;
/** As many wrong credentials are answered at once. Each further one waits longer. */
const FAST_TRIES = 20;
const DELAY_STEP_MS = 5;
/** The address that was wrong longest ago is forgotten first. */
const MAX_ADDRESSES = 10_000;

/** `limited` is set when the tries ran out, until half of them are back. So one attack is reported once. */
type Bucket = { left: number; at: number; limited: boolean };

/** Without `everywhere` the node is alone. */
export function guessLimiter(emit: Emit, everywhere?: WrongCredentials): GuessLimiter {
  const buckets = new Map<string, Bucket>();
  const triesLeft = (group: string) => {
    const bucket = buckets.get(group);
    return bucket ? Math.min(MAX_TRIES, bucket.left + (clock.monotonic() - bucket.at) / REFILL_MS) : MAX_TRIES;
  };
  const check = (address: string) => {
    const left = triesLeft(groupOf(address));
    if (left < 1) throw limitedProblem((1 - left) * REFILL_MS);
  };
  const setTriesLeft = (group: string, left: number) => {
    const limited = buckets.get(group)?.limited === true && left < MAX_TRIES / 2;
    buckets.delete(group);
    buckets.set(group, { left, at: clock.monotonic(), limited });
    const [oldest = ""] = buckets.keys();
    if (buckets.size > MAX_ADDRESSES) buckets.delete(oldest);
  };
  const takeEverywhere = async (group: string): Promise<number> => {
    if (!everywhere) return MAX_TRIES;
    try {
      return await withTimeout(STORE_TIMEOUT_MS, "Counting wrong credentials", everywhere.take(group, TRIES));
    } catch (error) {
      const { code, message } = asProblem(error);
      const what = "counting wrong credentials over all nodes";
      emit({ kind: "service.failed", what, failure: { code, cause: message } });
      return MAX_TRIES;
    }
  };
  return {
    check,
    async refuse(address, signal) {
      check(address);
      const group = groupOf(address);
      // This comes before any wait, so that guesses that come at once are all counted.
      setTriesLeft(group, triesLeft(group) - 1);
      const leftEverywhere = await takeEverywhere(group);
      if (leftEverywhere < triesLeft(group)) setTriesLeft(group, leftEverywhere);
      const left = triesLeft(group);
      emit({ kind: "access.refused", address: group, triesLeft: Math.max(0, Math.floor(left)) });
      const bucket = buckets.get(group);
      if (left < 1 && bucket && !bucket.limited) {
        bucket.limited = true;
        emit({ kind: "access.limited", address: group });
      }
      const wrongBefore = MAX_TRIES - left - FAST_TRIES;
      await sleep(Math.max(0, wrongBefore * DELAY_STEP_MS), signal);
    },
  };
}

function limitedProblem(waitMs: number): Problem {
  const why = "Too many requests with wrong credentials came from this address.";
  return new Problem("guesses", why, { retry: new Date(clock.now() + waitMs) });
}

/** An IPv4 address, or the /64 network of an IPv6 address, because one customer gets all addresses of it. */
export function groupOf(address: string): string {
  if (!ipaddr.isValid(address)) return "unknown";
  const parsed = ipaddr.process(address);
  if (!(parsed instanceof ipaddr.IPv6)) return parsed.toString();
  const network = new ipaddr.IPv6([...parsed.parts.slice(0, 4), 0, 0, 0, 0]);
  return `${network.toString()}/64`;
}
