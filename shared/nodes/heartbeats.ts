/**
 * Sessions. A node has one session instead of a renewed lease for each mailbox. It is one entry in Redis, renewed with
 * one command, and all leases of the node depend on it. The entries of all nodes are the list of live nodes.
 */
import { randomUUID } from "node:crypto";
import * as v from "valibot";
import { waitingLine } from "../concurrency/waiting-line.ts";
import { wakeup } from "../concurrency/wakeup.ts";
import { Problem } from "../contract/problem.ts";
import type { RedisConnection } from "../store/redis/connection/client.ts";
import { redisScript } from "../store/redis/connection/script.ts";
import type { RedisKeys } from "../store/redis/keys.ts";
import { listOf, numberOf, textsOf } from "../store/redis/connection/reply.ts";
import { sleep } from "../time.ts";
import type { ClusterEvents } from "./cluster-events.ts";
import { LUA_CLOCK } from "../store/redis/lua.ts";

/** How a node describes itself. `capacity` is how many mailboxes it may listen to; 0 for a worker. */
const NodeDescription = v.object({
  role: v.picklist(["api", "worker"]),
  name: v.string(),
  version: v.string(),
  startedAt: v.string(),
  mailboxes: v.number(),
  capacity: v.number(),
  /** The names of its encryption keys. It encrypts with the first. A node of 0.1 does not say. */
  keyring: v.exactOptional(v.array(v.object({ id: v.string(), mark: v.string() }))),
  /** It takes the tasks that prefer it. A worker of 0.1 does not say, and takes none. */
  ownTasks: v.exactOptional(v.boolean()),
});
export type NodeDescription = v.InferOutput<typeof NodeDescription>;

/** A live node. It gets a new `session` at each start, and each time Redis lost its old one. */
export type LiveNode = NodeDescription & { session: string };

/** Valid until `signal` aborts. It aborts before any other node may take the session for expired. */
export type NodeSession = { id: string; signal: AbortSignal };

export interface Heartbeats {
  /**
   * Keeps a session until the signal aborts, then ends it, so that others take over at once. Whatever holds leases must
   * have ended before.
   */
  run(signal: AbortSignal): Promise<void>;
  /** Resolves with this node's session, and waits while there is none. Rejects with the signal's reason. */
  awaitSession(signal: AbortSignal): Promise<NodeSession>;
  /** All live nodes, read from Redis now. */
  fetchNodes(): Promise<LiveNode[]>;
  /** All live nodes at the last renewal, and this node's session (undefined while there is none). */
  getCached(): { nodes: readonly LiveNode[]; own: string | undefined };
  /** Calls `changed` after each renewal that found other nodes than before. Returns a function that ends this. */
  onChange(changed: () => void): () => void;
}

type RedisHeartbeatsDeps = {
  redis: RedisConnection;
  keys: RedisKeys;
  clusterEvents: ClusterEvents;
  /** How long a node counts as alive after its last renewal. */
  ttlMs: number;
  describe: () => NodeDescription;
  /** Called once when Redis cannot be reached or has lost this node's session, until it works again. */
  report: (problem: unknown) => void;
};

/**
 * Renews the session `ARGV[1]` and returns all live ones. An expired session is never revived: then the first value is
 * 0, even if its entry still exists. ARGV[4] is the former session of the same node, which ends when a new one begins.
 * The last value says in how many milliseconds the first of all sessions ends if nobody renews it.
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

/** All live nodes, for a process that is none. */
export async function fetchLiveNodes(redis: RedisConnection, { globalPrefix }: RedisKeys): Promise<LiveNode[]> {
  return parseNodes(listOf(await redis.run(RENEW, globalPrefix, [""])));
}

export function redisHeartbeats(deps: RedisHeartbeatsDeps): Heartbeats {
  const { clusterEvents } = deps;
  const list = nodeList(deps);
  const session = ownSession(deps.ttlMs);
  const nodesChanged = wakeup();

  /** Renews or begins the session. Resolves with the time until the next renewal. */
  const beat = async (): Promise<number> => {
    const endsMs =
      session.id === undefined ? await beginSession(deps, list, session) : await renewSession(list, session);
    return Math.min(deps.ttlMs / RENEWALS_PER_TTL, endsMs + EXPIRY_MARGIN_MS);
  };

  const beatUntilAborted = async (signal: AbortSignal) => {
    let failing = false;
    while (!signal.aborted) {
      const waitMs = await beat().catch((error: unknown) => {
        if (!failing) deps.report(error);
        return undefined;
      });
      failing = waitMs === undefined;
      if (waitMs === undefined) await sleep(Math.min(RETRY_MS, deps.ttlMs / 15), signal);
      // Several nodes that start or stop together are handled together.
      else if ((await nodesChanged.wait(waitMs, signal)) === "triggered") await sleep(DEBOUNCE_MS, signal);
    }
  };

  return {
    async run(signal) {
      const stopListening = clusterEvents.subscribe((news) => news.kind === "nodes" && nodesChanged.trigger());
      try {
        await beatUntilAborted(signal);
      } finally {
        stopListening();
        const last = session.id;
        session.end("The node is stopping");
        if (last !== undefined) await removeSession(deps, last).catch((error: unknown) => deps.report(error));
      }
    },
    awaitSession: (signal) => session.awaitStart(signal),
    async fetchNodes() {
      await list.renew("");
      return list.nodes;
    },
    getCached: () => ({ nodes: list.nodes, own: session.id }),
    onChange: list.onChange,
  };
}

/** The live nodes as Redis last listed them. Each renewal lists them again. */
function nodeList({ redis, keys, ttlMs, describe }: RedisHeartbeatsDeps) {
  const listeners = new Set<() => void>();
  let nodes: LiveNode[] = [];
  return {
    get nodes() {
      return nodes;
    },
    onChange(changed: () => void) {
      listeners.add(changed);
      return () => void listeners.delete(changed);
    },
    /**
     * Renews a session, begins it if a former one is given, and only lists for "". Resolves with the time until the
     * next session ends if nobody renews it. Its mailboxes must be taken at that moment, not only at the next renewal.
     */
    async renew(id: string, former?: string): Promise<{ alive: boolean; firstEndsMs: number }> {
      const args =
        id === "" ? [id] : [id, ttlMs, JSON.stringify(describe()), ...(former === undefined ? [] : [former])];
      const reply = listOf(await redis.run(RENEW, keys.globalPrefix, args, ttlMs / RENEWALS_PER_TTL));
      const before = sessionIdsOf(nodes);
      nodes = parseNodes(reply);
      if (sessionIdsOf(nodes) !== before) for (const listener of listeners) listener();
      return { alive: reply[0] === 1, firstEndsMs: numberOf(reply[3]) };
    },
  };
}

/** The session of this node. Its own timer ends it before Redis can take it for expired. */
function ownSession(ttlMs: number) {
  let current: { id: string; stop: AbortController; timer: NodeJS.Timeout } | undefined;
  const waiting = waitingLine<undefined, void>();
  let former = "";
  let next = randomUUID();

  const end = (why: string) => {
    if (current === undefined) return;
    const { id, stop, timer } = current;
    clearTimeout(timer);
    former = id;
    current = undefined;
    stop.abort(new DOMException(why, "AbortError"));
  };

  return {
    end,
    get id() {
      return current?.id;
    },
    /** The id of the previous session. It ends when a new one begins. */
    get former() {
      return former;
    },
    /**
     * The id of the next session. It is the same for each attempt, because Redis may have begun a session whose answer
     * was lost.
     */
    get next() {
      return next;
    },
    /**
     * Begins or extends the session. The time counts from before the request was sent, on the monotonic clock. Redis
     * counts from a later moment, so this session ends first.
     */
    extend(id: string, sentAt: number) {
      const ms = sentAt + ttlMs * SAFE_FRACTION - performance.now();
      const timer = setTimeout(() => end("The node's session may have expired"), Math.max(0, ms));
      clearTimeout(current?.timer);
      current = { id, stop: current?.stop ?? new AbortController(), timer };
      if (id === next) next = randomUUID();
      for (let first = waiting.first(); first; first = waiting.first()) first.admit();
    },
    async awaitStart(signal: AbortSignal): Promise<NodeSession> {
      for (;;) {
        signal.throwIfAborted();
        if (current !== undefined) return { id: current.id, signal: current.stop.signal };
        await waiting.wait(undefined, {}, signal);
      }
    },
  };
}

type NodeList = ReturnType<typeof nodeList>;
type OwnSession = ReturnType<typeof ownSession>;

async function beginSession(
  { clusterEvents }: RedisHeartbeatsDeps,
  list: NodeList,
  session: OwnSession,
): Promise<number> {
  const sentAt = performance.now();
  const id = session.next;
  const { firstEndsMs } = await list.renew(id, session.former);
  session.extend(id, sentAt);
  await clusterEvents.publish({ kind: "nodes" });
  return firstEndsMs;
}

async function renewSession(list: NodeList, session: OwnSession): Promise<number> {
  const { id = "" } = session;
  const sentAt = performance.now();
  const { alive, firstEndsMs } = await list.renew(id);
  // A late answer must not revive a session that ended meanwhile.
  if (session.id !== id) return 0;
  if (alive) {
    session.extend(id, sentAt);
    return firstEndsMs;
  }
  session.end("Redis no longer knows the node's session");
  throw new Problem(
    "store",
    "Redis has no session of this node any more: the node was away too long, or Redis lost its data",
  );
}

async function removeSession({ redis, keys, clusterEvents, ttlMs }: RedisHeartbeatsDeps, id: string): Promise<void> {
  await redis.run(END, keys.globalPrefix, [id], ttlMs / RENEWALS_PER_TTL);
  await clusterEvents.publish({ kind: "nodes" });
}

/** Renewals within one ttl. */
const RENEWALS_PER_TTL = 3;
/** The part of the ttl in which this node relies on its session. The fences stop whatever still runs after that. */
const SAFE_FRACTION = 0.9;
const RETRY_MS = 1_000;
const DEBOUNCE_MS = 100;
/** How long after the end of another node's session this node looks. */
const EXPIRY_MARGIN_MS = 20;

function parseNodes([, ids, abouts]: unknown[]): LiveNode[] {
  const descriptions = textsOf(abouts);
  return textsOf(ids).map((session, n) => ({
    ...v.parse(NodeDescription, JSON.parse(descriptions[n] ?? "")),
    session,
  }));
}

function sessionIdsOf(nodes: LiveNode[]): string {
  return nodes
    .map(({ session }) => session)
    .toSorted()
    .join(" ");
}
