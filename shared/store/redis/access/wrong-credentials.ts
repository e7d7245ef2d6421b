/** Wrong credentials over all nodes: a bucket of tries for each address. It is gone once it would be full again. */
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { numberOf } from "../connection/reply.ts";
import type { RedisKeys } from "../keys.ts";
import { LUA_CLOCK } from "../lua.ts";
import type { WrongCredentials } from "../../access-rules.ts";

/** ARGV: address, size, ms in which a try comes back. Returns a thousand times the tries that are left. */
const TAKE = redisScript(
  LUA_CLOCK,
  `
  local bucket, size, refill = base .. 'guesses:' .. ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
  local left, at = unpack(redis.call('HMGET', bucket, 'left', 'at'))
  left = left and math.min(size, tonumber(left) + math.max(0, now - tonumber(at)) / refill) or size
  left = math.max(-size, left - 1)
  redis.call('HSET', bucket, 'left', tostring(left), 'at', whole(now))
  redis.call('PEXPIRE', bucket, math.ceil((size - left) * refill))
  return math.floor(left * 1000)`,
);

export function redisWrongCredentials(redis: RedisConnection, { globalPrefix }: RedisKeys): WrongCredentials {
  return {
    async take(address, { size, refillMs }) {
      return numberOf(await redis.run(TAKE, globalPrefix, [address, size, refillMs])) / 1000;
    },
  };
}
