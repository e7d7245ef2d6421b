/**
 * The index over all mailboxes' deliveries: their ids, newest first, by state, endpoint and due time, and how many
 * bytes are spooled. The deliveries themselves are stored with their mailbox. So the index is written in separate
 * steps, in an order that can be corrected after a crash: `reserve` before a waiting delivery is written, `confirm`
 * after. So every retrying or parked delivery is in the index. It may have entries too many; readers skip them and
 * `trim` drops them.
 */
import { type Delivery, DeliveryState } from "../../../contract/delivery.ts";
import { Problem } from "../../../contract/problem.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import type { RedisKeys } from "../keys.ts";
import { listOf, numberOf, textOrNull, textsOf } from "../connection/reply.ts";

export const DELIVERY_STATES = DeliveryState.options;

/** Delivered records that are kept overall. Older ones are deleted. */
const MAX_DELIVERED = 50_000;

/**
 * `entries` maps an id to its entry: m is the mailbox, k its key in the sets (time and id), e the endpoint, b the
 * spooled bytes.
 */
const LUA_ENTRIES = `
  local base = KEYS[1]
  local function entryOf(id)
    local doc = redis.call('HGET', base .. 'deliveries', id)
    return doc and cjson.decode(doc) or nil
  end
  local function forget(id)
    local entry = entryOf(id)
    if not entry then return end
    for _, state in ipairs({ ${DELIVERY_STATES.map((state) => `'${state}'`).join(", ")} }) do
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

const RESERVE = redisScript(
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

const CONFIRM = redisScript(
  LUA_ENTRIES,
  `
  local id, mailbox, key, state, endpoint, due, bytes = unpack(ARGV)
  write(id, mailbox, key, state, endpoint, due, tonumber(bytes))
  for _, other in ipairs({ ${DELIVERY_STATES.map((state) => `'${state}'`).join(", ")} }) do
    if other ~= state then redis.call('ZREM', base .. 'deliveries:' .. other, key) end
  end
  if state ~= 'retrying' then
    redis.call('ZREM', base .. 'endpoint:' .. endpoint, key)
    redis.call('ZREM', base .. 'due', id)
  end
  for i = 8, #ARGV do forget(ARGV[i]) end
  local dropped = {}
  local surplus = redis.call('ZCARD', base .. 'deliveries:delivered') - ${MAX_DELIVERED}
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

const REMOVE = redisScript(LUA_ENTRIES, `for i = 1, #ARGV do forget(ARGV[i]) end return 1`);

/** Where a delivery is stored. */
export type DeliveryLocation = { id: string; mailbox: string };
export type IndexedDelivery = DeliveryLocation & { key: string };

export interface DeliveryIndex {
  /**
   * Called before a waiting delivery is written. `bytes` undefined keeps what is spooled. Throws `full` when there is
   * no room.
   */
  reserve(delivery: Delivery, bytes: number | undefined): Promise<void>;
  /**
   * Called after a delivery was written with this state. `gone` were deleted with it. Returns others that should be
   * deleted.
   */
  confirm(delivery: Delivery, bytes: number | undefined, gone: string[]): Promise<DeliveryLocation[]>;
  remove(ids: string[]): Promise<void>;
  findMailbox(id: string): Promise<string | undefined>;
  /**
   * Up to `limit` of a state or an endpoint, in the order of their keys from `range.from` on; newest first unless
   * `oldestFirst`.
   */
  listPage(of: { state: DeliveryState } | { endpoint: string }, range: KeyRange): Promise<IndexedDelivery[]>;
  countState(state: DeliveryState, since: string): Promise<number>;
  /** Ids of retrying deliveries due before a time (ms), in the order of their due times. */
  listDue(before: number, limit: number): Promise<DeliveryLocation[]>;
  getDueTimes(ids: string[]): Promise<(number | undefined)[]>;
  /** When to look at the delivery (ms): it is claimed until then, or due earlier than before. */
  setDueTime(id: string, at: number): Promise<void>;
  getSpoolBytes(): Promise<number>;
}

/** Bounds of keys as ZRANGEBYLEX takes them, in the given order. */
export type KeyRange = { from: string; to: string; limit: number; oldestFirst?: boolean };

/** The key of a delivery: its time in base 36 and its id, so that keys sort by time and then by id. */
export function deliveryKey(createdAt: number, id: string): string {
  return timeKey(createdAt) + id;
}

export function timeKey(at: number): string {
  return Math.max(0, at).toString(36).padStart(9, "0");
}

export function idFromKey(key: string): string {
  return key.slice(9);
}

export function redisDeliveryIndex(redis: RedisConnection, keys: RedisKeys, maxSpoolBytes: number): DeliveryIndex {
  const { globalPrefix } = keys;
  const locateAll = async (ids: string[]): Promise<DeliveryLocation[]> => {
    if (ids.length === 0) return [];
    const entries = listOf(await redis.send("hmget", [`${globalPrefix}deliveries`, ...ids])).map(textOrNull);
    return ids.flatMap((id, n) => {
      const entry = entries[n];
      return entry ? [{ id, mailbox: parseMailboxId(entry) }] : [];
    });
  };
  return {
    async reserve(delivery, bytes) {
      const held = numberOf(
        await redis.run(RESERVE, globalPrefix, [...entryArguments(delivery, bytes), maxSpoolBytes]),
      );
      if (held < 0) return;
      const room = `${held} of ${maxSpoolBytes} bytes are in use, and this message needs ${bytes}`;
      throw new Problem("full", `The spool has no room for another message: ${room}`);
    },
    async confirm(delivery, bytes, gone) {
      const dropped = textsOf(await redis.run(CONFIRM, globalPrefix, [...entryArguments(delivery, bytes), ...gone]));
      return dropped.flatMap((id, n) => (n % 2 === 0 ? [{ id, mailbox: dropped[n + 1] ?? "" }] : []));
    },
    async remove(ids) {
      for (let from = 0; from < ids.length; from += BATCH_SIZE) {
        await redis.run(REMOVE, globalPrefix, ids.slice(from, from + BATCH_SIZE));
      }
    },
    async findMailbox(id) {
      return (await locateAll([id]))[0]?.mailbox;
    },
    async listPage(of, { from, to, limit, oldestFirst }) {
      const set = "state" in of ? `${globalPrefix}deliveries:${of.state}` : `${globalPrefix}endpoint:${of.endpoint}`;
      const range = oldestFirst ? "zrangebylex" : "zrevrangebylex";
      const found = textsOf(await redis.send(range, [set, from, to, "limit", 0, limit]));
      const byId = new Map(found.map((key) => [idFromKey(key), key]));
      return (await locateAll([...byId.keys()])).map((one) => ({ ...one, key: byId.get(one.id) ?? "" }));
    },
    countState: async (state, since) =>
      numberOf(await redis.send("zlexcount", [`${globalPrefix}deliveries:${state}`, since, "+"])),
    async listDue(before, limit) {
      return locateAll(
        textsOf(await redis.send("zrangebyscore", [`${globalPrefix}due`, "-inf", `(${before}`, "limit", 0, limit])),
      );
    },
    async getDueTimes(ids) {
      if (ids.length === 0) return [];
      const times = listOf(await redis.send("zmscore", [`${globalPrefix}due`, ...ids])).map(textOrNull);
      return times.map((time) => (time === null ? undefined : Number(time)));
    },
    async setDueTime(id, at) {
      await redis.send("zadd", [`${globalPrefix}due`, "xx", at, id]);
    },
    getSpoolBytes: async () => numberOf((await redis.send("get", [`${globalPrefix}spool`])) ?? 0),
  };
}

const BATCH_SIZE = 1_000;

function entryArguments(delivery: Delivery, bytes: number | undefined): (string | number)[] {
  const { id, mailbox, state, endpoint, createdAt, nextAttemptAt } = delivery;
  const due = nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
  return [id, mailbox, deliveryKey(Date.parse(createdAt), id), state, endpoint, due, bytes ?? -1];
}

function parseMailboxId(entry: string): string {
  const value: unknown = JSON.parse(entry);
  if (typeof value === "object" && value !== null && "m" in value && typeof value.m === "string") return value.m;
  throw new Problem("store", "Redis holds an index entry that cannot be read", { retry: "never" });
}
