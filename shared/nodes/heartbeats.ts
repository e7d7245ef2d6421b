/**
 * Sessions: what a node has instead of a lease for each of its mailboxes. One entry in Redis, renewed in one command, keeps all
 * its mailboxes; the entries of all nodes together are the list of who is there.
 */
import { randomUUID } from "node:crypto";
import * as v from "valibot";
import { Problem } from "../contract/problem.ts";
import { type RedisConnection, redisScript } from "../store/redis-client.ts";
import type { RedisKeys } from "../store/redis/keys.ts";
import { LUA_CLOCK } from "../store/redis/ledger.ts";
import { listOf, numberOf, textsOf } from "../store/redis-reply.ts";
import { slept } from "../time.ts";
import type { News } from "./cluster-events.ts";

/** What a node says of itself. `capacity` is how many mailboxes it is willing to listen to; 0 for a worker. */
const About = v.object({
  role: v.picklist(["api", "worker"]),
  name: v.string(),
  version: v.string(),
  startedAt: v.string(),
  mailboxes: v.number(),
  capacity: v.number(),
});
export type About = v.InferOutput<typeof About>;

/** A live node. `session` is its own for each start, and for each time Redis lost sight of it. */
export type NodeInfo = About & { session: string };

/** Valid until `signal` aborts, which is before anybody else may take it for expired. */
export type Session = { id: string; signal: AbortSignal };

export interface Sessions {
  /** Keeps a session until the signal aborts, then ends it, so that others take over at once. Run it outside of what holds leases. */
  run(signal: AbortSignal): Promise<void>;
  /** The session of this node; waits while there is none. Rejects with the signal's reason. */
  session(signal: AbortSignal): Promise<Session>;
  /** All live nodes, asked now. */
  nodes(): Promise<NodeInfo[]>;
  /** All live nodes as of the last renewal, and the session of this node among them (undefined while there is none). */
  known(): { nodes: readonly NodeInfo[]; own: string | undefined };
  /** Calls `changed` after each renewal that found other nodes than before. Returns what ends that. */
  onChange(changed: () => void): () => void;
}

type Deps = {
  redis: RedisConnection;
  keys: RedisKeys;
  news: News;
  /** How long a node that says nothing counts as alive. */
  ttlMs: number;
  about: () => About;
  /** Redis cannot be reached, or has lost this node's session. Said once until it is there again. */
  report: (problem: unknown) => void;
};

/**
 * Renews the session `ARGV[1]` and answers all live ones. A session that has expired is never revived: 0 is answered then, also when
 * its entry was not dropped yet. ARGV[4] is the former session of the same node, which ends when a new one begins. Last it answers in
 * how many milliseconds the first of all sessions ends if nobody renews it.
 */
const RENEW = redisScript(
  LUA_CLOCK,
  `
  local sessions, nodes = base .. 'sessions', base .. 'nodes'
  for _, expired in ipairs(redis.call('ZRANGEBYSCORE', sessions, '-inf', now)) do
    redis.call('ZREM', sessions, expired)
    redis.call('HDEL', nodes, expired)
  end
  local id, ttl, about, former = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
  local alive = 1
  if id ~= '' then
    if former then
      redis.call('ZREM', sessions, former)
      redis.call('HDEL', nodes, former)
    elseif not redis.call('ZSCORE', sessions, id) then
      alive = 0
    end
    if alive == 1 then
      redis.call('ZADD', sessions, now + ttl, id)
      redis.call('HSET', nodes, id, about)
    end
  end
  local ids = redis.call('ZRANGE', sessions, 0, -1)
  local first = redis.call('ZRANGE', sessions, 0, 0, 'WITHSCORES')[2]
  return { alive, ids, #ids > 0 and redis.call('HMGET', nodes, unpack(ids)) or {}, first and first - now or 0 }`,
);

const END = redisScript(
  "redis.call('ZREM', KEYS[1] .. 'sessions', ARGV[1]) return redis.call('HDEL', KEYS[1] .. 'nodes', ARGV[1])",
);

type Own = { id: string; stop: AbortController; timer: NodeJS.Timeout };

export function redisSessions(deps: Deps): Sessions {
  const { redis, keys, ttlMs } = deps;
  const listeners = new Set<() => void>();
  let nodes: NodeInfo[] = [];
  let own: Own | undefined;
  let begun = Promise.withResolvers<void>();
  let woken = new AbortController();
  let former = "";
  let next = randomUUID();

  const lose = (why: string) => {
    if (own === undefined) return;
    clearTimeout(own.timer);
    former = own.id;
    const { stop } = own;
    own = undefined;
    begun = Promise.withResolvers<void>();
    stop.abort(new DOMException(why, "AbortError"));
  };

  // Measured from before the request was sent, by a clock that nobody sets: Redis counts from later.
  const extend = (id: string, sentAt: number) => {
    const ms = sentAt + ttlMs * CERTAIN - performance.now();
    const timer = setTimeout(() => lose("The node's session may have expired"), Math.max(0, ms));
    if (own === undefined) {
      own = { id, stop: new AbortController(), timer };
      begun.resolve();
    } else {
      clearTimeout(own.timer);
      own.timer = timer;
    }
  };

  const learn = (found: NodeInfo[]) => {
    const changed = describeNodes(found) !== describeNodes(nodes);
    nodes = found;
    if (changed) for (const listener of listeners) listener();
  };

  const ask = async (args: (string | number)[]): Promise<{ alive: boolean; firstEndsMs: number }> => {
    const reply = listOf(await redis.run(RENEW, keys.all, args, ttlMs / RENEWALS));
    learn(nodesOf(reply));
    return { alive: reply[0] === 1, firstEndsMs: numberOf(reply[3]) };
  };

  /** Both resolve with when the next session ends that nobody renews: its mailboxes are to be taken then, not with the next renewal. */
  const begin = async (): Promise<number> => {
    const sentAt = performance.now();
    const { firstEndsMs } = await ask([next, ttlMs, JSON.stringify(deps.about()), former]);
    extend(next, sentAt);
    next = randomUUID();
    await deps.news.tell({ kind: "nodes" });
    return firstEndsMs;
  };

  const renew = async (id: string): Promise<number> => {
    const sentAt = performance.now();
    const { alive, firstEndsMs } = await ask([id, ttlMs, JSON.stringify(deps.about())]);
    // A late answer must not bring back a session that was given up meanwhile.
    if (own?.id !== id) return 0;
    if (alive) {
      extend(id, sentAt);
      return firstEndsMs;
    }
    lose("Redis no longer knows the node's session");
    throw new Problem("store", "Redis no longer knew this node: it was away too long, or Redis lost its data");
  };

  return {
    async run(signal) {
      let failing = false;
      const stopListening = deps.news.listen((news) => news.kind === "nodes" && woken.abort());
      while (!signal.aborted) {
        woken = new AbortController();
        const endsMs = await (own === undefined ? begin() : renew(own.id)).catch((error: unknown) => {
          if (!failing) deps.report(error);
          return undefined;
        });
        failing = endsMs === undefined;
        const wait = endsMs === undefined ? Math.min(1_000, ttlMs / 15) : Math.min(ttlMs / RENEWALS, endsMs + LATE_MS);
        await slept(wait, failing ? signal : AbortSignal.any([signal, woken.signal]));
        // Several nodes that come and go at once are looked at together.
        if (woken.signal.aborted) await slept(SETTLE_MS, signal);
      }
      stopListening();
      const last = own?.id;
      lose("The node is stopping");
      if (last === undefined) return;
      await redis.run(END, keys.all, [last], ttlMs / RENEWALS).then(
        () => deps.news.tell({ kind: "nodes" }),
        (error: unknown) => deps.report(error),
      );
    },
    async session(signal) {
      for (;;) {
        signal.throwIfAborted();
        if (own !== undefined) return { id: own.id, signal: own.stop.signal };
        await untilAborted(begun.promise, signal);
      }
    },
    async nodes() {
      await ask([""]);
      return nodes;
    },
    known: () => ({ nodes, own: own?.id }),
    onChange(changed) {
      listeners.add(changed);
      return () => listeners.delete(changed);
    },
  };
}

/** Renewals in one lifetime. */
const RENEWALS = 3;
/** The part of its lifetime in which a session is certain; what work does in the rest of it, the fences judge. */
const CERTAIN = 0.9;
const SETTLE_MS = 100;
/** A session is looked at so long after its end. */
const LATE_MS = 20;

function nodesOf([, ids, abouts]: unknown[]): NodeInfo[] {
  const told = textsOf(abouts);
  return textsOf(ids).map((session, n) => ({ ...v.parse(About, JSON.parse(told[n] ?? "")), session }));
}

function describeNodes(nodes: NodeInfo[]): string {
  return nodes
    .map(({ session }) => session)
    .toSorted()
    .join(" ");
}

/** Resolves with the wait, or when the signal aborts. */
function untilAborted(wait: Promise<unknown>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const finish = () => {
      signal.removeEventListener("abort", finish);
      resolve();
    };
    if (signal.aborted) finish();
    signal.addEventListener("abort", finish, { once: true });
    wait.then(finish, finish);
  });
}
