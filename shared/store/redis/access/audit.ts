/**
 * The audit in Redis: a hash of entries by their keys (time and id), and sorted sets of these keys: of all entries, of
 * each actor and of each mailbox.
 */
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { deliveryKey, timeKey } from "../deliveries/indexes.ts";
import type { RedisKeys } from "../keys.ts";
import { listOf, numberOf, textOrNull, textsOf } from "../connection/reply.ts";
import { entryIds, expiryTimes, MAX_ENTRIES, parseEntry } from "../../access-rules.ts";
import { decodePageToken, encodePageToken } from "../../page-token.ts";
import type { Audit, AuditQuery } from "../../store.ts";

const LUA_ENTRIES = `
  local base = KEYS[1] .. 'audit:'
  local function drop(key)
    local doc = redis.call('HGET', base .. 'entries', key)
    if not doc then return end
    local entry = cjson.decode(doc)
    redis.call('HDEL', base .. 'entries', key)
    redis.call('ZREM', base .. 'all', key)
    redis.call('ZREM', base .. 'actor:' .. entry.actor.id, key)
    if entry.mailbox ~= cjson.null then redis.call('ZREM', base .. 'mailbox:' .. entry.mailbox, key) end
  end
`;

const PUT = redisScript(
  LUA_ENTRIES,
  `
  local key, actor, mailbox, doc = unpack(ARGV)
  redis.call('HSET', base .. 'entries', key, doc)
  redis.call('ZADD', base .. 'all', 0, key)
  redis.call('ZADD', base .. 'actor:' .. actor, 0, key)
  if mailbox ~= '' then redis.call('ZADD', base .. 'mailbox:' .. mailbox, 0, key) end
  local surplus = redis.call('ZCARD', base .. 'actor:' .. actor) - ${MAX_ENTRIES}
  if surplus > 0 then
    for _, old in ipairs(redis.call('ZRANGE', base .. 'actor:' .. actor, 0, surplus - 1)) do drop(old) end
  end
  return 1`,
);

const DROP = redisScript(LUA_ENTRIES, `for _, key in ipairs(ARGV) do drop(key) end return 1`);

export function redisAudit(redis: RedisConnection, { globalPrefix }: RedisKeys): Audit {
  return {
    nextId: entryIds(),
    async put(entry) {
      const key = deliveryKey(Date.parse(entry.at), entry.id);
      await redis.run(PUT, globalPrefix, [key, entry.actor.id, entry.mailbox ?? "", JSON.stringify(entry)]);
    },
    async remove({ id, at }) {
      await redis.run(DROP, globalPrefix, [deliveryKey(Date.parse(at), id)]);
    },
    async list(query) {
      const set = `${globalPrefix}audit:${setOf(query)}`;
      const from = query.cursor === undefined ? "+" : `(${decodePageToken(query.cursor, 1)[0]}`;
      const [found, total] = await Promise.all([
        redis.send("zrevrangebylex", [set, from, "-", "limit", 0, query.limit + 1]),
        redis.send("zcard", [set]),
      ]);
      const keys = textsOf(found);
      const page = keys.slice(0, query.limit);
      const docs = page.length === 0 ? [] : await redis.send("hmget", [`${globalPrefix}audit:entries`, ...page]);
      const last = page.at(-1);
      return {
        items: listOf(docs)
          .map(textOrNull)
          .flatMap((doc) => (doc === null ? [] : [parseEntry(doc)])),
        next: keys.length > query.limit && last !== undefined ? encodePageToken([last]) : null,
        total: numberOf(total),
      };
    },
  };
}

function setOf({ mailbox, actor }: AuditQuery): string {
  if (mailbox !== undefined) return `mailbox:${mailbox}`;
  return actor === undefined ? "all" : `actor:${actor}`;
}

const PAGE_SIZE = 500;

/** Deletes old entries. */
export async function pruneAudit(redis: RedisConnection, { globalPrefix }: RedisKeys, now: Date): Promise<void> {
  const args = [`${globalPrefix}audit:all`, "-", `(${timeKey(expiryTimes(now).entries)}`, "limit", 0, PAGE_SIZE];
  for (;;) {
    const old = textsOf(await redis.send("zrangebylex", args));
    if (old.length > 0) await redis.run(DROP, globalPrefix, old);
    if (old.length < PAGE_SIZE) return;
  }
}
