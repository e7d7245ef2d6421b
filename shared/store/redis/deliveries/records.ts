/** The records of deliveries at their mailbox in Redis: their form, how to read one, how to delete all. */
import * as v from "valibot";
import { Delivery } from "../../../contract/delivery.ts";
import { Problem } from "../../../contract/problem.ts";
import type { RedisConnection } from "../connection/client.ts";
import { type DeliveryLocation, DELIVERY_STATES } from "./indexes.ts";
import type { RedisKeys } from "../keys.ts";
import { foldText, matchesMessage, readMessageId, searchedText } from "../../delivery-search.ts";
import { textOrNull } from "../connection/reply.ts";

/**
 * An entry of a mailbox's `deliveries`: state, due time, time of creation (base 36), whether bytes are spooled,
 * document.
 */
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

/** Deletes all deliveries of a removed mailbox, and their spooled bytes. */
export const LUA_FORGET_DELIVERIES = `
  local function forgetDeliveries()
    local ids = redis.call('HKEYS', base .. 'deliveries')
    for _, id in ipairs(ids) do redis.call('UNLINK', base .. 'raw:' .. id) end
    redis.call('UNLINK', base .. 'deliveries', base .. 'taken'${DELIVERY_STATES.map((state) => `, base .. 'list:${state}'`).join("")})
    return ids
  end
`;

type ReadDeliveryDeps = { redis: RedisConnection; keys: RedisKeys };

/** The delivery as its mailbox holds it; undefined when there is none (any more). */
export async function readDelivery(deps: ReadDeliveryDeps, mailbox: string, id: string): Promise<Delivery | undefined> {
  const record = await readRecord(deps, mailbox, id);
  return record === null ? undefined : parseDelivery(record);
}

async function readRecord({ redis, keys }: ReadDeliveryDeps, mailbox: string, id: string): Promise<string | null> {
  return textOrNull(await redis.send("hget", [`${keys.mailboxPrefix(mailbox)}deliveries`, id]));
}

/** The delivery if its message matches. Only records that have the text somewhere are parsed, because that costs much more. */
export async function findInDelivery(
  deps: ReadDeliveryDeps,
  { mailbox, id }: DeliveryLocation,
  text: string,
): Promise<Delivery | undefined> {
  const record = await readRecord(deps, mailbox, id);
  if (record === null) return undefined;
  const folded = foldText(record);
  const wanted = [searchedText(text), foldText(readMessageId(text) ?? text)];
  if (!wanted.some((one) => folded.includes(JSON.stringify(one).slice(1, -1)))) return undefined;
  const delivery = parseDelivery(record);
  return matchesMessage(delivery.message, text) ? delivery : undefined;
}

/** Parses a record. For a retrying delivery the record's due time may be newer than the one in its document. */
export function parseDelivery(record: string): Delivery {
  const [, state, due = "", spooled, doc] = /^(\w+) (\d+) \w+ (\d) (.*)$/s.exec(record) ?? [];
  if (doc === undefined) throw new Problem("store", "Redis holds a delivery that cannot be read", { retry: "never" });
  const delivery = { ...v.parse(Delivery, JSON.parse(doc)), spooled: spooled === "1" };
  const at = Number(due);
  if (state !== "retrying" || at === 0 || at === Date.parse(delivery.nextAttemptAt ?? "")) return delivery;
  return { ...delivery, nextAttemptAt: new Date(at).toISOString() };
}

export function rawBytesKey(keys: RedisKeys, mailbox: string, id: string): string {
  return `${keys.mailboxPrefix(mailbox)}raw:${id}`;
}
