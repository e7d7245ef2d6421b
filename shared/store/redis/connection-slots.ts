/**
 * Connection slots in Redis: a sorted set for each mailbox with worker connections. A member that nobody renews
 * expires.
 */
import { randomUUID } from "node:crypto";
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import type { RedisKeys } from "./keys.ts";
import { numberOf } from "./connection/reply.ts";
import type { ConnectionSlots } from "../store.ts";
import { LUA_CLOCK } from "./lua.ts";

const ACQUIRE = redisScript(
  LUA_CLOCK,
  `
  local slots, slot, limit, ttl = base .. 'seats:' .. ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
  redis.call('ZREMRANGEBYSCORE', slots, '-inf', now)
  if redis.call('ZCARD', slots) >= limit then return 0 end
  redis.call('ZADD', slots, now + ttl, slot)
  redis.call('PEXPIRE', slots, ttl)
  return 1`,
);

/**
 * A slot that expired meanwhile may belong to another worker. If there is room it is added again, because its
 * connection still exists.
 */
const RENEW = redisScript(
  LUA_CLOCK,
  `
  for i = 2, #ARGV, 2 do
    local slots = base .. 'seats:' .. ARGV[i]
    redis.call('ZADD', slots, now + ARGV[1], ARGV[i + 1])
    redis.call('PEXPIRE', slots, ARGV[1])
  end
  return 1`,
);

const COUNT = redisScript(
  LUA_CLOCK,
  `return redis.call('ZCOUNT', base .. 'seats:' .. ARGV[1], '(' .. whole(now), '+inf')`,
);

const BATCH_SIZE = 500;

/** Resolves once it is subscribed to the slot requests of other nodes. */
export async function redisConnectionSlots(
  redis: RedisConnection,
  { globalPrefix }: RedisKeys,
): Promise<ConnectionSlots> {
  const channel = `${globalPrefix}wishes`;
  const listeners = new Set<(mailbox: string) => void>();
  await redis.subscribe(channel, (mailbox) => {
    for (const listener of listeners) listener(mailbox);
  });
  return {
    async acquire(mailbox, limit, ttlMs) {
      const slot = randomUUID();
      const acquired = numberOf(await redis.run(ACQUIRE, globalPrefix, [mailbox, slot, limit, ttlMs]));
      return acquired === 1 ? slot : undefined;
    },
    async renew(slots, ttlMs) {
      for (let from = 0; from < slots.length; from += BATCH_SIZE) {
        const batch = slots.slice(from, from + BATCH_SIZE).flatMap(({ mailbox, slot }) => [mailbox, slot]);
        await redis.run(RENEW, globalPrefix, [ttlMs, ...batch]);
      }
    },
    async release(mailbox, slot) {
      await redis.send("zrem", [`${globalPrefix}seats:${mailbox}`, slot]);
    },
    async requestSlot(mailbox) {
      await redis.send("publish", [channel, mailbox]);
    },
    onSlotRequest(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    count: async (mailbox) => numberOf(await redis.run(COUNT, globalPrefix, [mailbox])),
  };
}
