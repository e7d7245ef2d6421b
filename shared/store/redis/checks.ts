/** What is checked about Redis before it is trusted: that it keeps what it is given, and that the right keys are at hand. */
import { Problem } from "../../contract/problem.ts";
import { openMailbox, sealMailbox, type Vault } from "../vault.ts";
import { type RedisConnection, redisScript } from "../redis-client.ts";
import type { RedisKeys } from "./keys.ts";
import type { RedisRegistry } from "./registry.ts";
import { listOf, recordOf, textOrNull } from "../redis-reply.ts";

/**
 * Refuses a server that drops keys by itself when memory runs out (throws `config` saying how to change it). Returns warnings about a
 * server that forgets everything at a restart.
 */
export async function checkServer(redis: RedisConnection): Promise<string[]> {
  const infos = await redis.everywhere("info", ["everything"]);
  const policies = await settings(redis, "maxmemory-policy", infos, /^maxmemory_policy:(\S+)/m);
  const evicting = policies.find((policy) => policy !== undefined && policy !== "noeviction");
  if (evicting !== undefined) {
    const fix = "run CONFIG SET maxmemory-policy noeviction and put the same line into redis.conf";
    throw new Problem(
      "config",
      `Redis drops keys when memory runs out (maxmemory-policy is ${evicting}), so mail could be lost: ${fix}`,
      { retry: "never" },
    );
  }
  const appends = await settings(redis, "appendonly", infos, /^aof_enabled:(\d)/m);
  const saves = await settings(redis, "save", infos, /^rdb_last_save_time:never()/m);
  const forgetful = appends.some((append, n) => (append === "no" || append === "0") && saves[n] === "");
  const unsafe = appends.some((append) => append === "no" || append === "0");
  if (forgetful) return ["Redis keeps nothing over a restart: set appendonly yes in redis.conf"];
  return unsafe ? ["Redis loses what came after its last snapshot: set appendonly yes in redis.conf"] : [];
}

/** One setting of each server, from INFO where CONFIG is forbidden; undefined where neither says it. */
async function settings(
  redis: RedisConnection,
  name: string,
  infos: unknown[],
  inInfo: RegExp,
): Promise<(string | undefined)[]> {
  const told = await redis.everywhere("config", ["get", name]).catch(() => undefined);
  return infos.map((info, n) => {
    const [answer] = told === undefined ? [] : recordOf(told[n]);
    return answer?.[1] ?? inInfo.exec(String(info))?.[1];
  });
}

/** Answers whether it was replaced: not when somebody changed the mailbox meanwhile. */
const RESEAL = redisScript(`
  local mailbox = KEYS[1] .. 'mailbox'
  if redis.call('HGET', mailbox, 'doc') ~= ARGV[1] then return 0 end
  redis.call('HSET', mailbox, 'doc', ARGV[2], 'key', ARGV[3])
  return 1`);

type Deps = { redis: RedisConnection; keys: RedisKeys; registry: RedisRegistry; vault: Vault };

/**
 * Makes sure that every key which sealed something here is at hand (throws `config` naming the key otherwise), then seals everything
 * again with the first key: after that the old one can be dropped. While several nodes run, give all of them the new key as the
 * second one before any has it as the first.
 */
export async function reseal(deps: Deps): Promise<void> {
  const { redis, keys, vault } = deps;
  const canaries = `${keys.all}canaries`;
  const found = recordOf(await redis.send("hgetall", [canaries]));
  for (const [id, sealed] of found) vault.open(sealed, `canary|${id}`);
  const key = vault.sealsWith;
  // First, so that a node which starts meanwhile without this key is refused.
  await redis.send("hsetnx", [canaries, key, vault.seal("canary", `canary|${key}`)]);
  const old = found.map(([id]) => id).filter((id) => id !== key);
  if (old.length === 0) return;
  for (let from = "-"; ;) {
    const ids = await deps.registry.members("ids", { from, to: "+", limit: PAGE });
    for (const id of ids) await resealOne(deps, id);
    const last = ids.at(-1);
    if (ids.length < PAGE || last === undefined) break;
    from = `(${last}`;
  }
  await redis.send("hdel", [canaries, ...old]);
}

async function resealOne({ redis, keys, vault }: Deps, id: string): Promise<void> {
  const [doc, key] = listOf(await redis.send("hmget", [`${keys.mailbox(id)}mailbox`, "doc", "key"])).map(textOrNull);
  if (typeof doc !== "string" || key === vault.sealsWith) return;
  const sealed = JSON.stringify(sealMailbox(openMailbox(JSON.parse(doc), vault), vault));
  await redis.run(RESEAL, keys.mailbox(id), [doc, sealed, vault.sealsWith]);
}

const PAGE = 500;
