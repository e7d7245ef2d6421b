/** Checks Redis at the start, that it does not drop data by itself, and measures its memory. */
import { Problem } from "../../contract/problem.ts";
import type { StoreSize } from "../store.ts";
import type { RedisConnection } from "./connection/client.ts";
import { recordOf } from "./connection/reply.ts";

/**
 * Throws `config`, with the remedy, if the server evicts keys when memory runs out. Returns a warning if the server
 * forgets data at a restart.
 */
export async function checkServer(redis: RedisConnection): Promise<string[]> {
  const infos = await redis.sendToAllNodes("info", ["everything"]);
  const policies = await readSetting(redis, "maxmemory-policy", infos, /^maxmemory_policy:(\S+)/m);
  const evicting = policies.find((policy) => policy !== undefined && policy !== "noeviction");
  if (evicting !== undefined) {
    const fix = "run CONFIG SET maxmemory-policy noeviction and put the same line into redis.conf";
    throw new Problem(
      "config",
      `Redis evicts keys when memory runs out (maxmemory-policy is ${evicting}), so mail could be lost: ${fix}`,
      { retry: "never" },
    );
  }
  const appends = await readSetting(redis, "appendonly", infos, /^aof_enabled:(\d)/m);
  const saves = await readSetting(redis, "save", infos, /^rdb_last_save_time:never()/m);
  const volatile = appends.some((append, n) => (append === "no" || append === "0") && saves[n] === "");
  const withoutAof = appends.some((append) => append === "no" || append === "0");
  if (volatile) return ["Redis forgets everything at a restart: set appendonly yes in redis.conf"];
  return withoutAof
    ? ["A restart of Redis loses everything since its last snapshot: set appendonly yes in redis.conf"]
    : [];
}

/** Reads one setting from each server, or from INFO where CONFIG is forbidden. Undefined where neither says it. */
async function readSetting(
  redis: RedisConnection,
  name: string,
  infos: unknown[],
  inInfo: RegExp,
): Promise<(string | undefined)[]> {
  const replies = await redis.sendToAllNodes("config", ["get", name]).catch(() => undefined);
  return infos.map((info, n) => {
    const [entry] = replies === undefined ? [] : recordOf(replies[n]);
    return entry?.[1] ?? inInfo.exec(String(info))?.[1];
  });
}

/** The memory of all servers together. The limit is `maxmemory`, unknown where it is not set. */
export async function measureServers(redis: RedisConnection): Promise<StoreSize> {
  const infos = await redis.sendToAllNodes("info", ["memory"]);
  const sum = (pattern: RegExp) =>
    infos.reduce<number>((all, info) => all + Number(pattern.exec(String(info))?.[1] ?? 0), 0);
  return { usedBytes: sum(/^used_memory:(\d+)/m), limitBytes: sum(/^maxmemory:(\d+)/m) || null };
}
