/**
 * The last facts of each mailbox in Redis, in one list each. A list expires when its mailbox had no fact for a window.
 */
import { Problem } from "../../contract/problem.ts";
import type { Fact } from "../../telemetry/events.ts";
import { parseStoredFact } from "../../telemetry/stored-facts.ts";
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import type { RedisKeys } from "./keys.ts";
import { textsOf } from "./connection/reply.ts";
import type { Facts } from "../store.ts";

const MAX_FACTS = 200;

const APPEND = redisScript(`
  local list = KEYS[1] .. 'facts'
  for i = 2, #ARGV do redis.call('LPUSH', list, ARGV[i]) end
  redis.call('LTRIM', list, 0, ${MAX_FACTS - 1})
  redis.call('PEXPIRE', list, ARGV[1])
  return 1`);

export function redisFacts(redis: RedisConnection, keys: RedisKeys, windowMs: number): Facts {
  return {
    async append(facts) {
      const byMailbox = Map.groupBy(facts, (fact) => ("mailbox" in fact ? fact.mailbox : undefined));
      const appended = [...byMailbox].map(async ([mailbox, some]) => {
        if (mailbox === undefined) return;
        const docs = some.slice(-MAX_FACTS).map((fact) => JSON.stringify(fact));
        await redis.run(APPEND, keys.mailboxPrefix(mailbox), [Math.round(windowMs), ...docs]);
      });
      await Promise.all(appended);
    },
    async recent(mailbox, limit) {
      const docs = textsOf(await redis.send("lrange", [`${keys.mailboxPrefix(mailbox)}facts`, 0, limit - 1]));
      return docs.map((doc) => parseFact(JSON.parse(doc)));
    },
  };
}

function parseFact(value: unknown): Fact {
  const fact = parseStoredFact(value);
  if (fact) return fact;
  throw new Problem("store", "Redis holds a fact that cannot be read", { retry: "never" });
}
