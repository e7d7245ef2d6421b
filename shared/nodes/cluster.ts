/** This node among the others that share a Redis: its session, and the events that nodes publish. */
import manifest from "../../package.json" with { type: "json" };
import { asProblem } from "../contract/problem.ts";
import type { Node } from "../node.ts";
import type { Taker } from "../queue/preference.ts";
import type { Part } from "../run.ts";
import { type RedisKeys, redisKeys } from "../store/redis/keys.ts";
import { type ClusterEvents, redisClusterEvents } from "./cluster-events.ts";
import { type NodeDescription, redisHeartbeats, type Heartbeats } from "./heartbeats.ts";

export type Cluster = {
  keys: RedisKeys;
  clusterEvents: ClusterEvents;
  heartbeats: Heartbeats;
  /** Renews the session. Everything that relies on the session must run inside these parts. */
  parts: Part[];
};

/**
 * Joins the other nodes of this node's Redis. `mailboxes` returns how many mailboxes the node listens to now; a worker
 * has capacity 0.
 */
export async function joinCluster(
  { config, name, facts, redis, readiness, keyring, preference }: Node & { redis: NonNullable<Node["redis"]> },
  description: Pick<NodeDescription, "role" | "capacity"> & { mailboxes: () => number },
): Promise<Cluster> {
  const keys = redisKeys(config.REDIS_PREFIX);
  const clusterEvents = await redisClusterEvents(redis, keys);
  const startedAt = new Date().toISOString();
  // With a broker, an API node performs only what workers have no room for.
  const isTaker = ({ role }: Pick<NodeDescription, "role">) => role === "worker" || config.RABBITMQ_URL.length === 0;
  const heartbeats = redisHeartbeats({
    redis,
    keys,
    clusterEvents,
    ttlMs: config.SESSION_TTL_SECONDS * 1000,
    describe: () => ({
      ...description,
      // A node that is not ready leaves its mailboxes to the others.
      capacity: readiness.problem ? 0 : description.capacity,
      name,
      version: manifest.version,
      startedAt,
      mailboxes: description.mailboxes(),
      keyring: [...keyring],
      ownTasks: isTaker(description) && readiness.problem === null,
    }),
    report(error) {
      const { code, message } = asProblem(error);
      facts.emit({ kind: "service.failed", what: "this node's session in Redis", failure: { code, cause: message } });
    },
  });
  preference.know(takersAmong(heartbeats, isTaker));
  return { keys, clusterEvents, heartbeats, parts: [{ name: "session", run: heartbeats.run }] };
}

/** The nodes that perform tasks, as the last renewal listed them. The list is the same object until the next renewal. */
function takersAmong({ getCached }: Heartbeats, isTaker: (node: NodeDescription) => boolean): () => readonly Taker[] {
  let listed: readonly NodeDescription[] = [];
  let takers: readonly Taker[] = [];
  return () => {
    const { nodes } = getCached();
    if (nodes !== listed) {
      listed = nodes;
      takers = nodes.filter(isTaker).map(({ name, ownTasks = false }) => ({ name, ownTasks }));
    }
    return takers;
  };
}
