/** The index over all mailboxes' outgoing messages in Redis: where each lies, when it is due or since when it is over, and its bytes. */
import { Problem } from "../../contract/problem.ts";
import type { Sending } from "../../contract/sending.ts";
import { type RedisConnection, redisScript } from "../redis-client.ts";
import type { RedisKeys } from "./keys.ts";
import { listOf, numberOf, textOrNull, textsOf } from "../redis-reply.ts";

const LUA_DROP_BYTES = `
  local base = KEYS[1]
  local function dropBytes(id)
    local bytes = redis.call('HGET', base .. 'outbox:sizes', id)
    if not bytes then return end
    redis.call('HDEL', base .. 'outbox:sizes', id)
    redis.call('DECRBY', base .. 'outbox:bytes', bytes)
  end
`;

/** Answers the bytes held when there is no room, else -1. */
const ANNOUNCE = redisScript(`
  local base = KEYS[1]
  local id, mailbox, due, bytes, bound = unpack(ARGV)
  local held = tonumber(redis.call('GET', base .. 'outbox:bytes')) or 0
  if held + bytes > tonumber(bound) then return held end
  redis.call('INCRBY', base .. 'outbox:bytes', bytes)
  redis.call('HSET', base .. 'outbox:sizes', id, bytes)
  redis.call('HSET', base .. 'outbox', id, mailbox)
  redis.call('ZADD', base .. 'outbox:due', due, id)
  return -1`);

const OVER = redisScript(
  LUA_DROP_BYTES,
  `
  local id, at, spent = unpack(ARGV)
  redis.call('ZREM', base .. 'outbox:due', id)
  redis.call('ZADD', base .. 'outbox:over', at, id)
  if spent == '1' then dropBytes(id) end
  return 1`,
);

const FORGET = redisScript(
  LUA_DROP_BYTES,
  `
  for _, id in ipairs(ARGV) do
    dropBytes(id)
    redis.call('HDEL', base .. 'outbox', id)
    redis.call('ZREM', base .. 'outbox:due', id)
    redis.call('ZREM', base .. 'outbox:over', id)
  end
  return 1`,
);

type Located = { id: string; mailbox: string };

export interface OutboxIndex {
  /** Before a sending is taken up. Throws `full` past the bound. */
  announce(sending: Sending, bytes: number): Promise<void>;
  /** Nobody need look for it before then (ms). */
  due(id: string, at: number): Promise<void>;
  /** It is over; `spent` when its bytes are gone. */
  over(sending: Sending, spent: boolean): Promise<void>;
  forget(ids: string[]): Promise<void>;
  locate(id: string): Promise<string | undefined>;
  dueBefore(at: number, limit: number): Promise<Located[]>;
  overBefore(at: number, limit: number): Promise<Located[]>;
}

/** `bound` is on the compressed bytes of all outgoing messages. */
export function redisOutboxIndex(redis: RedisConnection, { all }: RedisKeys, bound: number): OutboxIndex {
  const before = async (set: string, at: number, limit: number): Promise<Located[]> => {
    const ids = textsOf(await redis.send("zrangebyscore", [all + set, "-inf", `(${at}`, "limit", 0, limit]));
    if (ids.length === 0) return [];
    const mailboxes = listOf(await redis.send("hmget", [`${all}outbox`, ...ids])).map(textOrNull);
    return ids.map((id, n) => ({ id, mailbox: mailboxes[n] ?? "" }));
  };
  return {
    async announce({ id, mailbox, nextAttemptAt }, bytes) {
      const due = nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
      const held = numberOf(await redis.run(ANNOUNCE, all, [id, mailbox, due, bytes, bound]));
      if (held < 0) return;
      const room = `${held} of ${bound} bytes are taken, this message needs ${bytes}`;
      throw new Problem("full", `There is no room for another outgoing message: ${room}`);
    },
    async due(id, at) {
      await redis.send("zadd", [`${all}outbox:due`, "xx", at, id]);
    },
    async over({ id, updatedAt }, spent) {
      await redis.run(OVER, all, [id, Date.parse(updatedAt), Number(spent)]);
    },
    async forget(ids) {
      if (ids.length > 0) await redis.run(FORGET, all, ids);
    },
    locate: async (id) => textOrNull(await redis.send("hget", [`${all}outbox`, id])) ?? undefined,
    dueBefore: (at, limit) => before("outbox:due", at, limit),
    overBefore: (at, limit) => before("outbox:over", at, limit),
  };
}
