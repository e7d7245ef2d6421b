/** The facts of connections in Redis: one hash by mailbox. They are removed with what is measured of a mailbox. */
import * as v from "valibot";
import { ConnectionFacts } from "../../../contract/learned.ts";
import type { Connections } from "../../measured/connections.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { textOrNull } from "../connection/reply.ts";
import type { RedisKeys } from "../keys.ts";

/** ARGV: mailbox and facts in turn. */
const SAVE = redisScript(`
  for i = 1, #ARGV, 2 do
    if redis.call('HEXISTS', KEYS[1] .. 'states', ARGV[i]) == 1 then
      redis.call('HSET', KEYS[1] .. 'connections', ARGV[i], ARGV[i + 1])
    end
  end
  return 1`);

const PER_SCRIPT = 500;

export function redisConnections(redis: RedisConnection, { globalPrefix }: RedisKeys): Connections {
  return {
    async save(entries) {
      for (let from = 0; from < entries.length; from += PER_SCRIPT) {
        const slice = entries.slice(from, from + PER_SCRIPT);
        const args = slice.flatMap(({ mailbox, facts }) => [mailbox, JSON.stringify(facts)]);
        await redis.run(SAVE, globalPrefix, args);
      }
    },
    async read(mailbox) {
      const stored = textOrNull(await redis.send("hget", [`${globalPrefix}connections`, mailbox]));
      return stored === null ? undefined : v.parse(ConnectionFacts, JSON.parse(stored));
    },
  };
}
