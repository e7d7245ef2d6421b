/**
 * The index over all mailboxes' outgoing messages in Redis: where each is stored, when it is due or when it ended, and
 * its size.
 */
import { Problem } from "../../contract/problem.ts";
import type { Sending } from "../../contract/sending.ts";
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import type { RedisKeys } from "./keys.ts";
import { listOf, numberOf, textOrNull, textsOf } from "./connection/reply.ts";

const LUA_DROP_BYTES = `
  local base = KEYS[1]
  local function dropBytes(id)
    local bytes = redis.call('HGET', base .. 'outbox:sizes', id)
    if not bytes then return end
    redis.call('HDEL', base .. 'outbox:sizes', id)
    redis.call('DECRBY', base .. 'outbox:bytes', bytes)
  end
`;

/** Returns the bytes in use when there is no room, else -1. */
const RESERVE = redisScript(`
  local base = KEYS[1]
  local id, mailbox, due, bytes, bound = unpack(ARGV)
  local held = tonumber(redis.call('GET', base .. 'outbox:bytes')) or 0
  if held + bytes > tonumber(bound) then return held end
  redis.call('INCRBY', base .. 'outbox:bytes', bytes)
  redis.call('HSET', base .. 'outbox:sizes', id, bytes)
  redis.call('HSET', base .. 'outbox', id, mailbox)
  redis.call('ZADD', base .. 'outbox:due', due, id)
  return -1`);

const FINISH = redisScript(
  LUA_DROP_BYTES,
  `
  local id, at, spent = unpack(ARGV)
  redis.call('ZREM', base .. 'outbox:due', id)
  redis.call('ZADD', base .. 'outbox:over', at, id)
  if spent == '1' then dropBytes(id) end
  return 1`,
);

const REMOVE = redisScript(
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

type SendingLocation = { id: string; mailbox: string };

export interface OutboxIndex {
  /** Called before a sending is added. Throws `full` when there is no room. */
  reserve(sending: Sending, bytes: number): Promise<void>;
  /** The sending needs no work before this time (ms). */
  setDueTime(id: string, at: number): Promise<void>;
  /** The sending has ended. With `spent` its bytes are deleted. */
  markFinished(sending: Sending, spent: boolean): Promise<void>;
  remove(ids: string[]): Promise<void>;
  findMailbox(id: string): Promise<string | undefined>;
  listDueBefore(at: number, limit: number): Promise<SendingLocation[]>;
  listFinishedBefore(at: number, limit: number): Promise<SendingLocation[]>;
}

/** `maxBytes` limits the compressed bytes of all outgoing messages. */
export function redisOutboxIndex(redis: RedisConnection, { globalPrefix }: RedisKeys, maxBytes: number): OutboxIndex {
  const listBefore = async (set: string, at: number, limit: number): Promise<SendingLocation[]> => {
    const ids = textsOf(await redis.send("zrangebyscore", [globalPrefix + set, "-inf", `(${at}`, "limit", 0, limit]));
    if (ids.length === 0) return [];
    const mailboxes = listOf(await redis.send("hmget", [`${globalPrefix}outbox`, ...ids])).map(textOrNull);
    return ids.map((id, n) => ({ id, mailbox: mailboxes[n] ?? "" }));
  };
  return {
    async reserve({ id, mailbox, nextAttemptAt }, bytes) {
      const due = nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
      const held = numberOf(await redis.run(RESERVE, globalPrefix, [id, mailbox, due, bytes, maxBytes]));
      if (held < 0) return;
      const room = `${held} of ${maxBytes} bytes are in use, and this message needs ${bytes}`;
      throw new Problem("full", `There is no room for another outgoing message: ${room}`);
    },
    async setDueTime(id, at) {
      await redis.send("zadd", [`${globalPrefix}outbox:due`, "xx", at, id]);
    },
    async markFinished({ id, updatedAt }, spent) {
      await redis.run(FINISH, globalPrefix, [id, Date.parse(updatedAt), Number(spent)]);
    },
    async remove(ids) {
      if (ids.length > 0) await redis.run(REMOVE, globalPrefix, ids);
    },
    findMailbox: async (id) => textOrNull(await redis.send("hget", [`${globalPrefix}outbox`, id])) ?? undefined,
    listDueBefore: (at, limit) => listBefore("outbox:due", at, limit),
    listFinishedBefore: (at, limit) => listBefore("outbox:over", at, limit),
  };
}
