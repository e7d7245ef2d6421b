/** This node among the others that share a Redis: its session, and what nodes tell each other. */
import manifest from "../../package.json" with { type: "json" };
import { asProblem } from "../contract/problem.ts";
import type { Node } from "../node.ts";
import type { Part } from "../run.ts";
import { type RedisKeys, redisKeys } from "../store/redis/keys.ts";
import { type News, redisNews } from "./cluster-events.ts";
import { type About, redisSessions, type Sessions } from "./heartbeats.ts";

export type Cluster = {
  keys: RedisKeys;
  news: News;
  sessions: Sessions;
  /** Keeps the session; to be run outside of what relies on it. */
  parts: Part[];
};

/** Joins the other nodes of this node's Redis. `mailboxes` says how many it listens to now; a worker has capacity 0. */
export async function joinCluster(
  { config, name, facts, redis }: Node & { redis: NonNullable<Node["redis"]> },
  about: Pick<About, "role" | "capacity"> & { mailboxes: () => number },
): Promise<Cluster> {
  const keys = redisKeys(config.REDIS_PREFIX);
  const news = await redisNews(redis, keys);
  const startedAt = new Date().toISOString();
  const sessions = redisSessions({
    redis,
    keys,
    news,
    ttlMs: config.SESSION_TTL_SECONDS * 1000,
    about: () => ({ ...about, name, version: manifest.version, startedAt, mailboxes: about.mailboxes() }),
    report(error) {
      const { code, message } = asProblem(error);
      facts.emit({ kind: "service.failed", what: "this node's session in Redis", failure: { code, cause: message } });
    },
  });
  return { keys, news, sessions, parts: [{ name: "session", run: sessions.run }] };
}
