/** Seats in Redis: a sorted set for each mailbox that workers are connected to, its members ending by themselves when nobody keeps them. */
import { randomUUID } from "node:crypto";
import { type RedisConnection, redisScript } from "./redis-client.ts";
import type { RedisKeys } from "./redis/keys.ts";
import { LUA_CLOCK } from "./redis/ledger.ts";
import { numberOf } from "./redis-reply.ts";
import type { Seats } from "./store.ts";

const TAKE = redisScript(
  LUA_CLOCK,
  `
  local seats, seat, limit, ttl = base .. 'seats:' .. ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
  redis.call('ZREMRANGEBYSCORE', seats, '-inf', now)
  if redis.call('ZCARD', seats) >= limit then return 0 end
  redis.call('ZADD', seats, now + ttl, seat)
  redis.call('PEXPIRE', seats, ttl)
  return 1`,
);

/** A seat that ended meanwhile is somebody else's by now, or it is taken anew: its connection is there. */
const KEEP = redisScript(
  LUA_CLOCK,
  `
  for i = 2, #ARGV, 2 do
    local seats = base .. 'seats:' .. ARGV[i]
    redis.call('ZADD', seats, now + ARGV[1], ARGV[i + 1])
    redis.call('PEXPIRE', seats, ARGV[1])
  end
  return 1`,
);

const SLICE = 500;

/** Resolves once it hears the wishes of other nodes. */
export async function redisSeats(redis: RedisConnection, { all }: RedisKeys): Promise<Seats> {
  const channel = `${all}wishes`;
  const listeners = new Set<(mailbox: string) => void>();
  await redis.subscribe(channel, (mailbox) => {
    for (const heard of listeners) heard(mailbox);
  });
  return {
    async take(mailbox, limit, ttlMs) {
      const seat = randomUUID();
      const taken = numberOf(await redis.run(TAKE, all, [mailbox, seat, limit, ttlMs]));
      return taken === 1 ? seat : undefined;
    },
    async keep(seats, ttlMs) {
      for (let from = 0; from < seats.length; from += SLICE) {
        const some = seats.slice(from, from + SLICE).flatMap(({ mailbox, seat }) => [mailbox, seat]);
        await redis.run(KEEP, all, [ttlMs, ...some]);
      }
    },
    async leave(mailbox, seat) {
      await redis.send("zrem", [`${all}seats:${mailbox}`, seat]);
    },
    async wish(mailbox) {
      await redis.send("publish", [channel, mailbox]);
    },
    onWish(heard) {
      listeners.add(heard);
      return () => listeners.delete(heard);
    },
  };
}
