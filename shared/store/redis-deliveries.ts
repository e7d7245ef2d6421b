/**
 * Deliveries in Redis: each lies with its mailbox, so that it is written and its message done in one step; its raw bytes have a key of their
 * own. Retrying and parked ones are kept until they change; of the delivered, the newest of each mailbox and the newest in all.
 */
import { promisify } from "node:util";
import { constants, zstdCompress, zstdDecompress } from "node:zlib";
import type { Delivery } from "../contract/delivery.ts";
import { type RedisConnection, redisScript } from "./redis-client.ts";
import { type DeliveryIndex, timeKey } from "./redis-delivery-index.ts";
import { listedDeliveries, retryingDeliveries } from "./redis-delivery-lists.ts";
import { LUA_RECORDS, openedDelivery, rawKey, readDelivery } from "./redis-delivery-records.ts";
import type { RedisKeys } from "./redis/keys.ts";
import { LUA_CLOCK, LUA_LEDGER } from "./redis/ledger.ts";
import { LUA_PRINTS, type PrintWindow } from "./redis/fingerprints.ts";
import { listOf, numberOf, textOf, textsOf } from "./redis-reply.ts";
import type { Deliveries } from "./store.ts";

const compress = promisify(zstdCompress);
const decompress = promisify(zstdDecompress);
/** The quickest level: text shrinks to about a third, and what is incompressible costs next to nothing. */
const QUICK = { params: { [constants.ZSTD_c_compressionLevel]: 1 } };

/** Delivered records remembered for each mailbox. */
const DELIVERED_KEPT = 200;
/** Raw bytes whose delivery was never written go by themselves. */
const UNSAVED_SECONDS = 600;
/** Clocks of nodes differ a little: a delivery is due this much early rather than overlooked when its task has come. */
const EARLY_MS = 500;
/** The time a command may take, and more for many bytes: 4 MB/s. */
const transferMs = (bytes: number) => 5_000 + bytes / 4_000;

const SAVE = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_PRINTS,
  LUA_RECORDS,
  `
  local id, state, due, made, doc = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
  local folder, epoch, uid = ARGV[8], ARGV[9], ARGV[10]
  local before = recordOf(id)
  if before then redis.call('ZREM', base .. 'list:' .. before.state, before.key) end
  local raw = base .. 'raw:' .. id
  if state == 'delivered' then redis.call('UNLINK', raw) else redis.call('PERSIST', raw) end
  local spooled = redis.call('EXISTS', raw)
  writeRecord(id, state, due, made, spooled, doc)
  redis.call('HDEL', base .. 'taken', id)
  redis.call('ZADD', base .. 'list:' .. state, 0, made .. id)
  done(folder, epoch, uid)
  finishPrints(folder, epoch, uid)
  local gone = {}
  while redis.call('ZCARD', base .. 'list:delivered') > ${DELIVERED_KEPT} do
    local oldest = redis.call('ZPOPMIN', base .. 'list:delivered')[1]:sub(10)
    dropRecord(oldest)
    gone[#gone + 1] = oldest
  end
  return gone`,
);

const TAKE = redisScript(
  LUA_CLOCK,
  LUA_RECORDS,
  `
  local record = recordOf(ARGV[1])
  if not record or record.state ~= 'retrying' then return nil end
  if record.due > math.max(now, tonumber(ARGV[3])) + ${EARLY_MS} then return nil end
  if (tonumber(redis.call('HGET', base .. 'taken', ARGV[1])) or 0) > now then return nil end
  local till = now + ARGV[2]
  redis.call('HSET', base .. 'taken', ARGV[1], till)
  return { whole(till), redis.call('HGET', base .. 'deliveries', ARGV[1]) }`,
);

const KEEP = redisScript(
  LUA_CLOCK,
  `
  if redis.call('HEXISTS', base .. 'taken', ARGV[1]) == 0 then return nil end
  local till = now + ARGV[2]
  redis.call('HSET', base .. 'taken', ARGV[1], till)
  return whole(till)`,
);

/** A mailbox's record goes, unless it waits. */
const DROP = redisScript(
  LUA_CLOCK,
  LUA_RECORDS,
  `
  for _, id in ipairs(ARGV) do
    local record = recordOf(id)
    if record and record.state == 'delivered' then dropRecord(id) end
  end
  return 1`,
);

type Deps = { redis: RedisConnection; keys: RedisKeys; window: PrintWindow; index: DeliveryIndex };

export function redisDeliveries(deps: Deps): Deliveries {
  const { redis, keys, index } = deps;
  return {
    async save(delivery, raw) {
      const waits = delivery.state !== "delivered";
      // Outside of the step and of this thread: compressing 60 MB takes a quarter of a second.
      const packed = raw && waits ? await compress(raw, QUICK) : undefined;
      if (waits) await index.announce(delivery, packed?.length);
      if (packed) {
        const key = rawKey(keys, delivery.mailbox, delivery.id);
        const set = (...how: (string | number)[]) =>
          redis.send("set", [key, packed, ...how], transferMs(packed.length));
        // Over bytes that a delivery has already, without a time to live: they must not go when this process dies here.
        if ((await set("nx", "ex", UNSAVED_SECONDS)) === null) await set("keepttl");
      }
      const gone = await write(deps, delivery);
      const surplus = await index.settle(delivery, waits ? packed?.length : 0, gone);
      for (const { id, mailbox } of surplus) await dropDelivered(deps, mailbox, [id]);
    },
    async get(id) {
      const mailbox = await index.locate(id);
      return mailbox === undefined ? undefined : readDelivery(deps, mailbox, id);
    },
    list: (query) => listedDeliveries(deps, query),
    async raw(id) {
      const mailbox = await index.locate(id);
      if (mailbox === undefined) return undefined;
      const key = rawKey(keys, mailbox, id);
      const bytes = numberOf(await redis.send("strlen", [key]));
      const packed = await redis.sendForBytes("get", [key], transferMs(bytes));
      return packed instanceof Uint8Array ? decompress(packed) : undefined;
    },
    async take(id, ttlMs, early) {
      const mailbox = await index.locate(id);
      if (mailbox === undefined) return undefined;
      const reply = await redis.run(TAKE, keys.mailbox(mailbox), [
        id,
        ttlMs,
        early ? Number.MAX_SAFE_INTEGER : Date.now(),
      ]);
      if (reply === null) return undefined;
      const [until, record] = listOf(reply);
      await index.dueFrom(id, numberOf(until));
      return openedDelivery(textOf(record));
    },
    async keep(id, ttlMs) {
      const mailbox = await index.locate(id);
      if (mailbox === undefined) return;
      const until = await redis.run(KEEP, keys.mailbox(mailbox), [id, ttlMs]);
      if (until !== null) await index.dueFrom(id, numberOf(until));
    },
    retrying: (query) => retryingDeliveries(deps, query),
    async counts() {
      const [[retrying = 0, parked = 0, delivered = 0], spoolBytes] = await Promise.all([
        Promise.all((["retrying", "parked", "delivered"] as const).map((state) => index.count(state, "-"))),
        index.spoolBytes(),
      ]);
      return { retrying, parked, delivered, spoolBytes };
    },
  };
}

async function write({ redis, keys, window }: Deps, delivery: Delivery): Promise<string[]> {
  const { id, mailbox, state, createdAt, nextAttemptAt, ref } = delivery;
  const due = nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
  const record = [id, state, due, timeKey(Date.parse(createdAt)), JSON.stringify(delivery)];
  const args = [...window.values(), ...record, ref.folder, ref.epoch, ref.uid];
  return textsOf(await redis.run(SAVE, keys.mailbox(mailbox), args));
}

export async function dropDelivered(
  { redis, keys }: Pick<Deps, "redis" | "keys">,
  mailbox: string,
  ids: string[],
): Promise<void> {
  await redis.run(DROP, keys.mailbox(mailbox), ids);
}
