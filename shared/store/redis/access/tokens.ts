/** Tokens of the API in Redis: a hash of documents, and a hash of the times when they were last used. */
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import type { RedisKeys } from "../keys.ts";
import { listOf, numberOf, recordOf, textOrNull } from "../connection/reply.ts";
import { expiryTimes, MAX_TOKENS, tooManyTokens } from "../../access-rules.ts";
import { openToken, openTokens, resealTokens, sealToken, type StoredToken, type Tokens } from "../../sealed-tokens.ts";
import type { Vault } from "../../vault.ts";

const ADD = redisScript(`
  local tokens = KEYS[1] .. 'tokens'
  if redis.call('HLEN', tokens) >= ${MAX_TOKENS} then return 0 end
  redis.call('HSET', tokens, ARGV[1], ARGV[2])
  return 1`);

const REMOVE = redisScript(`
  redis.call('HDEL', KEYS[1] .. 'tokens:used', ARGV[1])
  return redis.call('HDEL', KEYS[1] .. 'tokens', ARGV[1])`);

const RECORD_USE = redisScript(`
  if redis.call('HEXISTS', KEYS[1] .. 'tokens', ARGV[1]) == 0 then return 0 end
  return redis.call('HSET', KEYS[1] .. 'tokens:used', ARGV[1], ARGV[2])`);

const GET = redisScript(`
  local doc = redis.call('HGET', KEYS[1] .. 'tokens', ARGV[1])
  return { doc, redis.call('HGET', KEYS[1] .. 'tokens:used', ARGV[1]) }`);

/** Replaces nothing when somebody removed the token meanwhile. */
const RESEAL = redisScript(`
  local tokens = KEYS[1] .. 'tokens'
  if redis.call('HGET', tokens, ARGV[1]) ~= ARGV[2] then return 0 end
  redis.call('HSET', tokens, ARGV[1], ARGV[3])
  return 1`);

type RedisTokensDeps = {
  redis: RedisConnection;
  keys: RedisKeys;
  vault: Vault;
  /** See ../sealing/canaries.ts. */
  announceKey: () => Promise<void>;
};

export function redisTokens(deps: RedisTokensDeps): Tokens {
  const { redis, keys, vault, announceKey } = deps;
  const { globalPrefix } = keys;
  return {
    async add(token) {
      await announceKey();
      const added = numberOf(await redis.run(ADD, globalPrefix, [token.id, sealToken(token, vault)]));
      await announceKey();
      if (added === 0) throw tooManyTokens();
    },
    async get(id) {
      const [sealed = null, lastUsedAt = null] = listOf(await redis.run(GET, globalPrefix, [id])).map(textOrNull);
      return sealed === null ? undefined : openToken({ id, sealed, lastUsedAt }, vault);
    },
    async list() {
      const { tokens, unreadable } = openTokens(await listStored(deps), vault);
      return { tokens: tokens.toSorted((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1)), unreadable };
    },
    remove: async (id) => numberOf(await redis.run(REMOVE, globalPrefix, [id])) === 1,
    async recordUse(id, at) {
      await redis.run(RECORD_USE, globalPrefix, [id, at]);
    },
  };
}

async function listStored({ redis, keys }: Pick<RedisTokensDeps, "redis" | "keys">): Promise<StoredToken[]> {
  const [docs, uses] = await Promise.all([
    redis.send("hgetall", [`${keys.globalPrefix}tokens`]),
    redis.send("hgetall", [`${keys.globalPrefix}tokens:used`]),
  ]);
  const usedAt = new Map(recordOf(uses));
  return recordOf(docs).map(([id, sealed]) => ({ id, sealed, lastUsedAt: usedAt.get(id) ?? null }));
}

/** Encrypts with the first key what another one encrypted. */
export async function resealStoredTokens(deps: Omit<RedisTokensDeps, "announceKey">) {
  const { redis, keys, vault } = deps;
  return resealTokens(
    await listStored(deps),
    vault,
    async (old, sealed) => numberOf(await redis.run(RESEAL, keys.globalPrefix, [old.id, old.sealed, sealed])) === 1,
  );
}

function sortKey({ createdAt, id }: { createdAt: string; id: string }): string {
  return `${createdAt} ${id}`;
}

/** Removes tokens that expired long ago. */
export async function pruneTokens(tokens: Tokens, now: Date): Promise<void> {
  const before = expiryTimes(now).tokens;
  for (const { id, expiresAt } of (await tokens.list()).tokens)
    if (expiresAt !== null && Date.parse(expiresAt) < before) await tokens.remove(id);
}
