/**
 * Locks over all nodes: a key in Redis with the holder's token, renewed while the work runs. It expires if its node
 * dies.
 */
import { randomUUID } from "node:crypto";
import { type LockLimits, type Locks, processLocks, tookTooLong } from "../../concurrency/locks.ts";
import { childSignal } from "../../concurrency/abort.ts";
import { Problem } from "../../contract/problem.ts";
import { jitter, sleep } from "../../time.ts";
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import type { RedisKeys } from "./keys.ts";

/**
 * Takes the lock. It also succeeds if this holder has it, because the answer to an earlier try may be lost. A node that
 * does not get the lock sets a key that says it is wanted. ARGV: key, token, ttl in ms, ttl of that key in ms.
 */
const ACQUIRE = redisScript(`
  local lock = KEYS[1] .. 'lock:' .. ARGV[1]
  local holder = redis.call('GET', lock)
  if holder and holder ~= ARGV[2] then
    redis.call('SET', lock .. ':wanted', 1, 'PX', ARGV[4])
    return 0
  end
  redis.call('SET', lock, ARGV[2], 'PX', ARGV[3])
  redis.call('DEL', lock .. ':wanted')
  return 1`);

const RENEW = redisScript(`
  local lock = KEYS[1] .. 'lock:' .. ARGV[1]
  if redis.call('GET', lock) ~= ARGV[2] then return 0 end
  return redis.call('PEXPIRE', lock, ARGV[3])`);

/** Returns 1 if the lock was released and no node wants it, 2 if another node wants it. */
const RELEASE = redisScript(`
  local lock = KEYS[1] .. 'lock:' .. ARGV[1]
  if redis.call('GET', lock) ~= ARGV[2] then return 0 end
  redis.call('DEL', lock)
  return 1 + redis.call('EXISTS', lock .. ':wanted')`);

const TTL_MS = 15_000;
const RENEW_INTERVAL_MS = TTL_MS / 3;
/**
 * The part of its time to live in which the holder can be sure of the lock. Redis starts to count later than the
 * holder.
 */
const SAFE_FRACTION = 0.9;
/** How often a node checks whether another one has released the lock. */
const POLL_MS = { first: 10, last: 200 };
/**
 * A node that released a lock leaves it this long to a node that wants it. It is longer than the longest time between
 * two checks.
 */
const YIELD_MS = 300;

type Lock = LockLimits & { key: string; token: string; deadline: number };

/** Within this process, waiters get the lock in the order they came. Nodes that want the same lock take turns. */
export function redisLocks(redis: RedisConnection, { globalPrefix }: RedisKeys): Locks {
  const local = processLocks();
  /** Locks that another node wants, and until when this node leaves them to it. */
  const yielded = new Map<string, number>();

  const acquire = async ({ key, token, deadline, what, waitMs }: Lock, signal: AbortSignal): Promise<number> => {
    await sleep(Math.max(0, (yielded.get(key) ?? 0) - performance.now()), signal);
    yielded.delete(key);
    for (let pollMs = POLL_MS.first; ; pollMs = Math.min(POLL_MS.last, 2 * pollMs)) {
      signal.throwIfAborted();
      const askedAt = performance.now();
      if ((await redis.run(ACQUIRE, globalPrefix, [key, token, TTL_MS, YIELD_MS])) === 1) return askedAt;
      if (performance.now() >= deadline) throw tookTooLong(what, waitMs);
      await sleep(jitter(pollMs), signal);
    }
  };

  /** Renews until `done` aborts. Calls `onLost` as soon as another node may have the lock. */
  const renewUntil = async (lock: Lock, askedAt: number, onLost: () => void, done: AbortSignal): Promise<void> => {
    let certainUntil = askedAt + TTL_MS * SAFE_FRACTION;
    while (await sleep(Math.min(RENEW_INTERVAL_MS, Math.max(0, certainUntil - performance.now())), done)) {
      const renewedAt = performance.now();
      const ms = Math.max(1, certainUntil - renewedAt);
      const reply = await redis.run(RENEW, globalPrefix, [lock.key, lock.token, TTL_MS], ms).catch(() => undefined);
      if (reply === 1) certainUntil = renewedAt + TTL_MS * SAFE_FRACTION;
      if (reply === 0 || performance.now() >= certainUntil) return onLost();
    }
  };

  const release = async ({ key, token }: Lock) => {
    // A lock that cannot be released now expires.
    const reply = await redis.run(RELEASE, globalPrefix, [key, token]).catch(() => undefined);
    if (reply === 2) yielded.set(key, performance.now() + YIELD_MS);
  };

  const runInLock = async <T>(lock: Lock, work: (signal: AbortSignal) => Promise<T>, signal: AbortSignal) => {
    const [done, lost] = [new AbortController(), new AbortController()];
    let renewing: Promise<void> | undefined;
    using workSignal = childSignal(signal, lost.signal);
    try {
      const askedAt = await acquire(lock, signal);
      const onLost = () =>
        lost.abort(new Problem("store", `${lock.what} stopped: another node may have its lock by now`));
      renewing = renewUntil(lock, askedAt, onLost, done.signal);
      return await work(workSignal.signal);
    } finally {
      done.abort();
      await renewing;
      await release(lock);
    }
  };

  return {
    hold(key, limits, work, signal) {
      const lock = { ...limits, key, token: randomUUID(), deadline: performance.now() + limits.waitMs };
      return local.hold(key, limits, () => runInLock(lock, work, signal), signal);
    },
  };
}
