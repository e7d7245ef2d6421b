/** Documents in Redis: a hash of texts, each after its revision. */
import type { Documents } from "../../documents.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { numberOf, textOrNull, textsOf } from "../connection/reply.ts";
import type { RedisKeys } from "../keys.ts";

/** ARGV: name, revision that it must have, text. */
const WRITE = redisScript(`
  local documents = KEYS[1] .. 'documents'
  local stored = redis.call('HGET', documents, ARGV[1])
  local revision = stored and tonumber(stored:match('^%d+')) or 0
  if revision ~= tonumber(ARGV[2]) then return 0 end
  redis.call('HSET', documents, ARGV[1], (revision + 1) .. ' ' .. ARGV[3])
  return 1`);

export function redisDocuments(redis: RedisConnection, { globalPrefix }: RedisKeys): Documents {
  return {
    async read(name) {
      const stored = textOrNull(await redis.send("hget", [`${globalPrefix}documents`, name]));
      if (stored === null) return undefined;
      const at = stored.indexOf(" ");
      return { revision: Number(stored.slice(0, at)), text: stored.slice(at + 1) };
    },
    write: async (name, { revision, text }) =>
      numberOf(await redis.run(WRITE, globalPrefix, [name, revision, text])) === 1,
    listNames: async () => textsOf(await redis.send("hkeys", [`${globalPrefix}documents`])),
    async remove(name) {
      await redis.send("hdel", [`${globalPrefix}documents`, name]);
    },
  };
}
