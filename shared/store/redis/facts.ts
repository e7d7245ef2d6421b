/** The last facts of each mailbox in Redis: one list each, forgotten when a mailbox has had nothing to say for a window. */
import { Problem } from "../../contract/problem.ts";
import type { Fact } from "../../telemetry/events.ts";
import { type RedisConnection, redisScript } from "../redis-client.ts";
import type { RedisKeys } from "./keys.ts";
import { textsOf } from "../redis-reply.ts";
import type { Facts } from "../store.ts";

const KEPT = 200;

const APPEND = redisScript(`
  local list = KEYS[1] .. 'facts'
  for i = 2, #ARGV do redis.call('LPUSH', list, ARGV[i]) end
  redis.call('LTRIM', list, 0, ${KEPT - 1})
  redis.call('PEXPIRE', list, ARGV[1])
  return 1`);

export function redisFacts(redis: RedisConnection, keys: RedisKeys, windowMs: number): Facts {
  return {
    async append(facts) {
      const byMailbox = Map.groupBy(facts, (fact) => ("mailbox" in fact ? fact.mailbox : undefined));
      const appended = [...byMailbox].map(async ([mailbox, some]) => {
        if (mailbox === undefined) return;
        const docs = some.slice(-KEPT).map((fact) => JSON.stringify(fact));
        await redis.run(APPEND, keys.mailbox(mailbox), [Math.round(windowMs), ...docs]);
      });
      await Promise.all(appended);
    },
    async recent(mailbox, limit) {
      const docs = textsOf(await redis.send("lrange", [`${keys.mailbox(mailbox)}facts`, 0, limit - 1]));
      return docs.map((doc) => factOf(JSON.parse(doc)));
    },
  };
}

function factOf(value: unknown): Fact {
  if (typeof value === "object" && value !== null && "at" in value && "kind" in value) return value as Fact;
  throw new Problem("store", "Redis holds a fact that cannot be read", { retry: "never" });
}
