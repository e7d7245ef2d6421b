/**
 * Leases among several nodes. Each mailbox has an owner record in Redis, which is valid as long as its owner's session
 * lives. Acquiring it gives a new fence, which also guards the mailbox's cursors. No lease is renewed by itself, and
 * nobody polls for one: an event or the end of the owner's session wakes a waiting node.
 */
import { childSignal, unlessAborted } from "../../shared/concurrency/abort.ts";
import { wakeup } from "../../shared/concurrency/wakeup.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { RedisConnection } from "../../shared/store/redis/connection/client.ts";
import { redisScript } from "../../shared/store/redis/connection/script.ts";
import { LUA_FENCE } from "../../shared/store/redis/cursors.ts";
import type { RedisKeys } from "../../shared/store/redis/keys.ts";
import { listOf, numberOf, textOf } from "../../shared/store/redis/connection/reply.ts";
import { jitter, sleep } from "../../shared/time.ts";
import type { Lease, Leases } from "./lease.ts";
import type { ClusterEvents } from "../../shared/nodes/cluster-events.ts";
import type { LiveNode, NodeSession, Heartbeats } from "../../shared/nodes/heartbeats.ts";
import { singleLeases } from "./single.ts";
import { LUA_CLOCK } from "../../shared/store/redis/lua.ts";

/** ARGV[2] is a session that has ended. Sessions are never revived, so its records may be taken. */
const ACQUIRE = redisScript(
  LUA_CLOCK,
  LUA_FENCE,
  `
  local owner = redis.call('HGET', base .. 'lease', 'session')
  if owner and owner ~= ARGV[1] and owner ~= ARGV[2] then return { 0, owner } end
  redis.call('HSET', base .. 'lease', 'session', ARGV[1])
  return { 1, nextFence() }`,
);

const RELEASE = redisScript(`
  if redis.call('HGET', KEYS[1] .. 'lease', 'session') ~= ARGV[1] then return 0 end
  return redis.call('HDEL', KEYS[1] .. 'lease', 'session')`);

export interface RedisLeases extends Leases {
  /** Wakes waiting callers and publishes released mailboxes, until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

type RedisLeasesDeps = { redis: RedisConnection; keys: RedisKeys; news: ClusterEvents; sessions: Heartbeats };

/** How often waiting callers try again without an event, in case one got lost. */
const RECHECK_EVERY_MS = 15_000;
/** Releases within this time go into one event, with at most this many mailboxes. */
const ANNOUNCE_EVERY_MS = 20;
const ANNOUNCE_BATCH = 500;
const RETRY_MS = 1_000;

export function redisLeases(deps: RedisLeasesDeps): RedisLeases {
  const { redis, keys, sessions, news } = deps;
  /** Within this process, holders of one mailbox follow each other. */
  const localLeases = singleLeases({ issueFence: async () => 0 });
  const waiters = leaseWaiters();
  const announcer = releaseAnnouncer(news);
  /** Mailboxes that may have an owner record of this node, each with its session. */
  const recorded = new Map<string, string>();
  const held = new Set<string>();
  const acquire = leaseAcquirer(deps, waiters, recorded);

  const release = async (key: string, session: string) => {
    await redis.run(RELEASE, keys.mailboxPrefix(key), [session]);
    recorded.delete(key);
    announcer.add(key);
  };

  const withLease = async <T>(key: string, work: (lease: Lease) => Promise<T>, signal: AbortSignal): Promise<T> => {
    held.add(key);
    try {
      const { session, fence } = await acquire(key, signal);
      try {
        signal.throwIfAborted();
        using until = childSignal(signal, session.signal);
        return await work({ key, fence, signal: until.signal });
      } finally {
        // A session that has ended owns nothing. If Redis is away now, the record stays in `recorded`, and `run`
        // deletes it later.
        if (!session.signal.aborted) await release(key, session.id).catch(() => undefined);
      }
    } finally {
      held.delete(key);
    }
  };

  /** Deletes owner records that nobody here holds. Those of an ended session are void anyway. */
  const releaseUnheld = async (signal: AbortSignal) => {
    const currentSession = sessions.getCached().own;
    for (const [key, session] of recorded) {
      if (held.has(key)) continue;
      if (session !== currentSession) recorded.delete(key);
      else await localLeases.hold(key, async () => recorded.has(key) && release(key, session), signal);
    }
  };

  return {
    hold: (key, work, signal) => localLeases.hold(key, () => withLease(key, work, signal), signal),
    async run(signal) {
      const stopListening = waiters.listen(deps);
      try {
        for (let recheckedAt = performance.now(); !signal.aborted;) {
          await announcer.awaitAny(signal);
          // Redis is away, and `sessions` reports that. What failed now is done in the next round.
          await announcer.publish().catch(() => undefined);
          await releaseUnheld(signal).catch(() => undefined);
          if (performance.now() - recheckedAt < RECHECK_EVERY_MS) continue;
          recheckedAt = performance.now();
          waiters.wakeOwnedBy(() => true);
        }
      } finally {
        stopListening();
      }
    },
  };
}

/**
 * Waits until this node owns the mailbox. It also waits while Redis is away. Throws the signal's reason, or a Problem
 * that does not pass.
 */
function leaseAcquirer(deps: RedisLeasesDeps, waiters: LeaseWaiters, recorded: Map<string, string>) {
  /**
   * One attempt. If another node owns the mailbox, it waits until a new attempt makes sense and resolves without a
   * fence.
   */
  const acquireOrWait = async (key: string, session: NodeSession, signal: AbortSignal): Promise<number | undefined> => {
    // Registered before the request, so that no event between the answer and the wait is missed, and no record whose
    // answer was lost.
    using waiter = waiters.add(key);
    recorded.set(key, session.id);
    const found = await acquireLease(deps, key, session.id);
    if (typeof found === "number") return found;
    recorded.delete(key);
    await waiter.awaitEndOf(found, signal);
    return undefined;
  };

  return async (key: string, signal: AbortSignal): Promise<{ session: NodeSession; fence: number }> => {
    for (;;) {
      const session = await deps.sessions.awaitSession(signal);
      try {
        const fence = await acquireOrWait(key, session, signal);
        if (fence !== undefined && !session.signal.aborted) return { session, fence };
      } catch (error) {
        if (signal.aborted || asProblem(error).retry === "never") throw error;
        await sleep(jitter(RETRY_MS), signal);
      }
    }
  };
}

type LeaseWaiters = ReturnType<typeof leaseWaiters>;

/**
 * The callers that wait for a mailbox of another node. They wake when the mailbox is released, or when its owner's
 * session ends.
 */
function leaseWaiters() {
  const waiting = new Map<string, { owner: string; wake: () => void }>();

  const wakeOwnedBy = (matches: (owner: string) => boolean) => {
    for (const { owner, wake } of waiting.values()) if (owner !== "" && matches(owner)) wake();
  };

  return {
    wakeOwnedBy,
    /** Adds a waiter for a mailbox. It counts from now on; its disposal removes it. */
    add(key: string) {
      const { promise: woken, resolve: wake } = Promise.withResolvers<void>();
      const entry = { owner: "", wake };
      waiting.set(key, entry);
      return {
        awaitEndOf(owner: string, signal: AbortSignal) {
          entry.owner = owner;
          return unlessAborted(woken, signal);
        },
        [Symbol.dispose]: () => void waiting.delete(key),
      };
    },
    /** Wakes waiters by the events of other nodes, until the returned function is called. */
    listen({ news, sessions }: Pick<RedisLeasesDeps, "news" | "sessions">): () => void {
      const unlisten = news.subscribe((item) => {
        if (item.kind === "released") for (const mailbox of item.mailboxes) waiting.get(mailbox)?.wake();
      });
      const unwatch = sessions.onChange(() => {
        const live = new Set(sessions.getCached().nodes.map(({ session }) => session));
        wakeOwnedBy((owner) => !live.has(owner));
      });
      return () => {
        unlisten();
        unwatch();
      };
    },
  };
}

/** Mailboxes that this node released and has not yet announced to the other nodes. */
function releaseAnnouncer(news: ClusterEvents) {
  const released = new Set<string>();
  const added = wakeup();
  return {
    add(key: string) {
      released.add(key);
      added.trigger();
    },
    /** Waits a second for the first one, and then a moment for others. */
    async awaitAny(signal: AbortSignal) {
      if (released.size === 0) await added.wait(RETRY_MS, signal);
      await sleep(ANNOUNCE_EVERY_MS, signal);
    },
    /** What could not be announced stays for the next call. */
    async publish() {
      while (released.size > 0) {
        const mailboxes = [...released].slice(0, ANNOUNCE_BATCH);
        await news.publish({ kind: "released", mailboxes });
        for (const mailbox of mailboxes) released.delete(mailbox);
      }
    },
  };
}

/** The new fence, or the live session that owns the mailbox. */
async function acquireLease(
  { redis, keys, sessions }: RedisLeasesDeps,
  key: string,
  session: string,
): Promise<number | string> {
  const tryAcquire = async (endedSession: string): Promise<number | string> => {
    const [acquired, reply] = listOf(await redis.run(ACQUIRE, keys.mailboxPrefix(key), [session, endedSession]));
    return acquired === 1 ? numberOf(reply) : textOf(reply);
  };
  const found = await tryAcquire("");
  return typeof found === "number" || (await isLive(sessions, found)) ? found : tryAcquire(found);
}

/**
 * False is certain: a session begins before it owns anything and is never revived, and this reads the list after the
 * owner's name was seen.
 */
async function isLive(sessions: Heartbeats, session: string): Promise<boolean> {
  const among = (nodes: readonly LiveNode[]) => nodes.some((node) => node.session === session);
  return among(sessions.getCached().nodes) || among(await sessions.fetchNodes());
}
