/**
 * The index over all mailboxes' deliveries: which there are, newest first, by state, endpoint and time due, and how many bytes are
 * spooled. The deliveries themselves lie with their mailbox, so the index is kept by steps of its own, in an order that a crash leaves
 * mendable: `announce` comes before a delivery that waits is written, `settle` after. So the index never lacks one that retries
 * or is parked; what it names too many is skipped by readers and dropped by `trim`.
 */
import { type Delivery, DeliveryState } from "../contract/delivery.ts";
import { Problem } from "../contract/problem.ts";
import { type RedisConnection, redisScript } from "./redis-client.ts";
import type { RedisKeys } from "./redis/keys.ts";
import { listOf, numberOf, textOrNull, textsOf } from "./redis-reply.ts";

export const STATES = DeliveryState.options;

/** Delivered records remembered in all; the older ones go. */
const DELIVERED_KEPT = 50_000;

/** `entries` maps an id to what is known of it: m mailbox, k its key in the sets (time and id), e endpoint, b spooled bytes. */
const LUA_ENTRIES = `
  local base = KEYS[1]
  local function entryOf(id)
    local doc = redis.call('HGET', base .. 'deliveries', id)
    return doc and cjson.decode(doc) or nil
  end
  local function forget(id)
    local entry = entryOf(id)
    if not entry then return end
    for _, state in ipairs({ ${STATES.map((state) => `'${state}'`).join(", ")} }) do
      redis.call('ZREM', base .. 'deliveries:' .. state, entry.k)
    end
    redis.call('ZREM', base .. 'endpoint:' .. entry.e, entry.k)
    redis.call('ZREM', base .. 'due', id)
    redis.call('HDEL', base .. 'deliveries', id)
    redis.call('DECRBY', base .. 'spool', entry.b)
  end
  local function write(id, mailbox, key, state, endpoint, due, bytes)
    local old = entryOf(id)
    if old and (old.k ~= key or old.e ~= endpoint or old.m ~= mailbox) then forget(id) end
    local held = old and old.b or 0
    if bytes < 0 then bytes = held end
    redis.call('HSET', base .. 'deliveries', id, cjson.encode({ m = mailbox, k = key, e = endpoint, b = bytes }))
    redis.call('ZADD', base .. 'deliveries:' .. state, 0, key)
    if state == 'retrying' then
      redis.call('ZADD', base .. 'endpoint:' .. endpoint, 0, key)
      redis.call('ZADD', base .. 'due', due, id)
    end
    if old and (old.k ~= key or old.e ~= endpoint or old.m ~= mailbox) then held = 0 end
    redis.call('INCRBY', base .. 'spool', bytes - held)
  end
`;

const ANNOUNCE = redisScript(
  LUA_ENTRIES,
  `
  local id, mailbox, key, state, endpoint, due, bytes, bound = unpack(ARGV)
  if tonumber(bytes) >= 0 then
    local held = tonumber(redis.call('GET', base .. 'spool')) or 0
    local old = entryOf(id)
    if held - (old and old.b or 0) + bytes > tonumber(bound) then return held end
  end
  write(id, mailbox, key, state, endpoint, due, tonumber(bytes))
  return -1`,
);

const SETTLE = redisScript(
  LUA_ENTRIES,
  `
  local id, mailbox, key, state, endpoint, due, bytes = unpack(ARGV)
  write(id, mailbox, key, state, endpoint, due, tonumber(bytes))
  for _, other in ipairs({ ${STATES.map((state) => `'${state}'`).join(", ")} }) do
    if other ~= state then redis.call('ZREM', base .. 'deliveries:' .. other, key) end
  end
  if state ~= 'retrying' then
    redis.call('ZREM', base .. 'endpoint:' .. endpoint, key)
    redis.call('ZREM', base .. 'due', id)
  end
  for i = 8, #ARGV do forget(ARGV[i]) end
  local dropped = {}
  local surplus = redis.call('ZCARD', base .. 'deliveries:delivered') - ${DELIVERED_KEPT}
  if surplus > 0 then
    for _, old in ipairs(redis.call('ZRANGE', base .. 'deliveries:delivered', 0, math.min(surplus, 10) - 1)) do
      local gone = old:sub(10)
      local entry = entryOf(gone)
      if entry then
        dropped[#dropped + 1] = gone
        dropped[#dropped + 1] = entry.m
      end
      redis.call('ZREM', base .. 'deliveries:delivered', old)
      forget(gone)
    end
  end
  return dropped`,
);

const FORGET = redisScript(LUA_ENTRIES, `for i = 1, #ARGV do forget(ARGV[i]) end return 1`);

/** Where a delivery lies. */
export type Located = { id: string; mailbox: string };
export type Keyed = Located & { key: string };

export interface DeliveryIndex {
  /** Before a waiting delivery is written. `bytes` undefined keeps what is spooled. Throws `full` past the bound. */
  announce(delivery: Delivery, bytes: number | undefined): Promise<void>;
  /** After a delivery was written: this is its state now. `gone` were dropped with it; returns others that should be. */
  settle(delivery: Delivery, bytes: number | undefined, gone: string[]): Promise<Located[]>;
  forget(ids: string[]): Promise<void>;
  locate(id: string): Promise<string | undefined>;
  /** Up to `limit` of a state, in the order of their keys from `range.from` on, newest first unless it says otherwise. */
  page(of: { state: DeliveryState } | { endpoint: string }, range: KeyRange): Promise<Keyed[]>;
  count(state: DeliveryState, since: string): Promise<number>;
  /** Ids of retrying deliveries due before a time (ms), those due first in front. */
  due(before: number, limit: number): Promise<Located[]>;
  dueTimes(ids: string[]): Promise<(number | undefined)[]>;
  /** When to look for the delivery (ms): it is taken until then, or due earlier than it was. */
  dueFrom(id: string, at: number): Promise<void>;
  spoolBytes(): Promise<number>;
}

/** Bounds of keys as ZRANGEBYLEX takes them, in the order given. */
export type KeyRange = { from: string; to: string; limit: number; oldestFirst?: boolean };

/** The key of a delivery: its time in base 36 and its id, so that keys sort by time, then id. */
export function keyOf(createdAt: number, id: string): string {
  return timeKey(createdAt) + id;
}

export function timeKey(at: number): string {
  return Math.max(0, at).toString(36).padStart(9, "0");
}

export function idOfKey(key: string): string {
  return key.slice(9);
}

export function redisDeliveryIndex(redis: RedisConnection, keys: RedisKeys, spoolBound: number): DeliveryIndex {
  const { all } = keys;
  const located = async (ids: string[]): Promise<Located[]> => {
    if (ids.length === 0) return [];
    const entries = listOf(await redis.send("hmget", [`${all}deliveries`, ...ids])).map(textOrNull);
    return ids.flatMap((id, n) => {
      const entry = entries[n];
      return entry ? [{ id, mailbox: mailboxOf(entry) }] : [];
    });
  };
  return {
    async announce(delivery, bytes) {
      const held = numberOf(await redis.run(ANNOUNCE, all, [...entryArguments(delivery, bytes), spoolBound]));
      if (held < 0) return;
      const room = `${held} of ${spoolBound} bytes are taken, this message needs ${bytes}`;
      throw new Problem("full", `The spool has no room for another message: ${room}`);
    },
    async settle(delivery, bytes, gone) {
      const dropped = textsOf(await redis.run(SETTLE, all, [...entryArguments(delivery, bytes), ...gone]));
      return dropped.flatMap((id, n) => (n % 2 === 0 ? [{ id, mailbox: dropped[n + 1] ?? "" }] : []));
    },
    async forget(ids) {
      for (let from = 0; from < ids.length; from += SLICE) {
        await redis.run(FORGET, all, ids.slice(from, from + SLICE));
      }
    },
    async locate(id) {
      return (await located([id]))[0]?.mailbox;
    },
    async page(of, { from, to, limit, oldestFirst }) {
      const set = "state" in of ? `${all}deliveries:${of.state}` : `${all}endpoint:${of.endpoint}`;
      const range = oldestFirst ? "zrangebylex" : "zrevrangebylex";
      const found = textsOf(await redis.send(range, [set, from, to, "limit", 0, limit]));
      const byId = new Map(found.map((key) => [idOfKey(key), key]));
      return (await located([...byId.keys()])).map((one) => ({ ...one, key: byId.get(one.id) ?? "" }));
    },
    count: async (state, since) => numberOf(await redis.send("zlexcount", [`${all}deliveries:${state}`, since, "+"])),
    async due(before, limit) {
      return located(
        textsOf(await redis.send("zrangebyscore", [`${all}due`, "-inf", `(${before}`, "limit", 0, limit])),
      );
    },
    async dueTimes(ids) {
      if (ids.length === 0) return [];
      const times = listOf(await redis.send("zmscore", [`${all}due`, ...ids])).map(textOrNull);
      return times.map((time) => (time === null ? undefined : Number(time)));
    },
    async dueFrom(id, at) {
      await redis.send("zadd", [`${all}due`, "xx", at, id]);
    },
    spoolBytes: async () => numberOf((await redis.send("get", [`${all}spool`])) ?? 0),
  };
}

const SLICE = 1_000;

function entryArguments(delivery: Delivery, bytes: number | undefined): (string | number)[] {
  const { id, mailbox, state, endpoint, createdAt, nextAttemptAt } = delivery;
  const due = nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
  return [id, mailbox, keyOf(Date.parse(createdAt), id), state, endpoint, due, bytes ?? -1];
}

function mailboxOf(entry: string): string {
  const value: unknown = JSON.parse(entry);
  if (typeof value === "object" && value !== null && "m" in value && typeof value.m === "string") return value.m;
  throw new Problem("store", "Redis holds an index entry that cannot be read", { retry: "never" });
}
