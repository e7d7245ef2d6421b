/** The entries of deliveries at their mailbox in Redis: their form, reading one, forgetting all. */
import * as v from "valibot";
import { Delivery } from "../contract/delivery.ts";
import { Problem } from "../contract/problem.ts";
import type { RedisConnection } from "./redis-client.ts";
import { STATES } from "./redis-delivery-index.ts";
import type { RedisKeys } from "./redis/keys.ts";
import { textOrNull } from "./redis-reply.ts";

/** An entry of a mailbox's `deliveries`: state, time due, time made (base 36), whether bytes are spooled, document. */
export const LUA_RECORDS = `
  local function recordOf(id)
    local record = redis.call('HGET', base .. 'deliveries', id)
    if not record then return nil end
    local state, due, made, spooled, doc = record:match('^(%l+) (%d+) (%w+) (%d) (.*)$')
    return { state = state, due = tonumber(due), made = made, key = made .. id, spooled = spooled, doc = doc }
  end
  local function writeRecord(id, state, due, made, spooled, doc)
    redis.call('HSET', base .. 'deliveries', id, table.concat({ state, due, made, spooled, doc }, ' '))
  end
  local function dropRecord(id)
    local record = recordOf(id)
    if record then redis.call('ZREM', base .. 'list:' .. record.state, record.key) end
    redis.call('HDEL', base .. 'deliveries', id)
    redis.call('HDEL', base .. 'taken', id)
    redis.call('UNLINK', base .. 'raw:' .. id)
  end
`;

/** All deliveries of a mailbox that is gone, and what is spooled of them. */
export const LUA_FORGET_DELIVERIES = `
  local function forgetDeliveries()
    local ids = redis.call('HKEYS', base .. 'deliveries')
    for _, id in ipairs(ids) do redis.call('UNLINK', base .. 'raw:' .. id) end
    redis.call('UNLINK', base .. 'deliveries', base .. 'taken'${STATES.map((state) => `, base .. 'list:${state}'`).join("")})
    return ids
  end
`;

type Deps = { redis: RedisConnection; keys: RedisKeys };

/** The delivery as its mailbox holds it, undefined when it does not (any more). */
export async function readDelivery({ redis, keys }: Deps, mailbox: string, id: string): Promise<Delivery | undefined> {
  const record = textOrNull(await redis.send("hget", [`${keys.mailbox(mailbox)}deliveries`, id]));
  return record === null ? undefined : openedDelivery(record);
}

/** A record read. Of a retrying delivery the time due may be newer than its document. */
export function openedDelivery(record: string): Delivery {
  const [, state, due = "", spooled, doc] = /^(\w+) (\d+) \w+ (\d) (.*)$/s.exec(record) ?? [];
  if (doc === undefined) throw new Problem("store", "Redis holds a delivery that cannot be read", { retry: "never" });
  const delivery = { ...v.parse(Delivery, JSON.parse(doc)), spooled: spooled === "1" };
  const at = Number(due);
  if (state !== "retrying" || at === 0 || at === Date.parse(delivery.nextAttemptAt ?? "")) return delivery;
  return { ...delivery, nextAttemptAt: new Date(at).toISOString() };
}

export function rawKey(keys: RedisKeys, mailbox: string, id: string): string {
  return `${keys.mailbox(mailbox)}raw:${id}`;
}
