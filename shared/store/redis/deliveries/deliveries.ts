/**
 * Deliveries in Redis. Each is stored with its mailbox, so one step writes it and marks its message as done. Its raw
 * bytes have their own key. Retrying and parked deliveries are kept until they change. Of the delivered ones, the
 * newest of each mailbox and the newest overall are kept.
 */
import type { Delivery } from "../../../contract/delivery.ts";
import { clock } from "../../../time.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { type DeliveryIndex, timeKey } from "./indexes.ts";
import { listDeliveries, listRetryingDeliveries } from "./lists.ts";
import { LUA_RECORDS, parseDelivery, rawBytesKey, readDelivery } from "./records.ts";
import type { RedisKeys } from "../keys.ts";
import { LUA_FINGERPRINTS, type FingerprintWindow } from "../fingerprints.ts";
import { listOf, numberOf, textOf, textsOf } from "../connection/reply.ts";
import { type MessagePlace, readMessage, sealMessage, transferTimeoutMs } from "../sealing/messages.ts";
import type { Deliveries } from "../../store.ts";
import type { MailboxSealing } from "../../mailbox-sealing.ts";
import type { Vault } from "../../vault.ts";
import { LUA_CLOCK, LUA_LEDGER } from "../lua.ts";

/** Delivered records that are kept for each mailbox. */
const MAX_DELIVERED = 200;
/** Raw bytes expire if their delivery was never written. */
const UNSAVED_TTL_SECONDS = 600;
/**
 * The clocks of nodes differ a little. So a delivery counts as due this much too early, because otherwise its task
 * might find it not due.
 */
const CLOCK_SKEW_MS = 500;

const SAVE = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_FINGERPRINTS,
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
  while redis.call('ZCARD', base .. 'list:delivered') > ${MAX_DELIVERED} do
    local oldest = redis.call('ZPOPMIN', base .. 'list:delivered')[1]:sub(10)
    dropRecord(oldest)
    gone[#gone + 1] = oldest
  end
  return gone`,
);

const CLAIM = redisScript(
  LUA_CLOCK,
  LUA_RECORDS,
  `
  local record = recordOf(ARGV[1])
  if not record or record.state ~= 'retrying' then return nil end
  if record.due > math.max(now, tonumber(ARGV[3])) + ${CLOCK_SKEW_MS} then return nil end
  if (tonumber(redis.call('HGET', base .. 'taken', ARGV[1])) or 0) > now then return nil end
  local till = now + ARGV[2]
  redis.call('HSET', base .. 'taken', ARGV[1], till)
  return { whole(till), redis.call('HGET', base .. 'deliveries', ARGV[1]) }`,
);

const RENEW = redisScript(
  LUA_CLOCK,
  `
  if redis.call('HEXISTS', base .. 'taken', ARGV[1]) == 0 then return nil end
  local till = now + ARGV[2]
  redis.call('HSET', base .. 'taken', ARGV[1], till)
  return whole(till)`,
);

/** Deletes a mailbox's record, unless it is retrying or parked. */
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

type RedisDeliveriesDeps = {
  redis: RedisConnection;
  keys: RedisKeys;
  vault: Vault;
  sealing: MailboxSealing;
  window: FingerprintWindow;
  index: DeliveryIndex;
  /** See sealing/canaries.ts. */
  announceKey: () => Promise<void>;
};

export function redisDeliveries(deps: RedisDeliveriesDeps): Deliveries {
  const { redis, keys, index } = deps;
  return {
    async save(delivery, raw) {
      const undelivered = delivery.state !== "delivered";
      // This happens outside the script and in another thread, because compressing 60 MB takes a quarter of a second.
      const place = placeOf(keys, delivery.mailbox, delivery.id);
      const sealed = raw && undelivered ? await sealMessage(place, raw, deps) : undefined;
      const announceIfSealed = async () => void (sealed && (await deps.announceKey()));
      if (undelivered) await Promise.all([announceIfSealed(), index.reserve(delivery, sealed?.length)]);
      if (sealed) {
        const key = rawBytesKey(keys, delivery.mailbox, delivery.id);
        const set = (...how: (string | number)[]) =>
          redis.send("set", [key, sealed, ...how], transferTimeoutMs(sealed.length));
        // If the delivery has bytes already, this overwrites them without a time to live. They must not expire when
        // this process dies here.
        if ((await set("nx", "ex", UNSAVED_TTL_SECONDS)) === null) await set("keepttl");
      }
      const [dropped] = await Promise.all([writeRecord(deps, delivery), announceIfSealed()]);
      const surplus = await index.confirm(delivery, undelivered ? sealed?.length : 0, dropped);
      for (const { id, mailbox } of surplus) await dropDelivered(deps, mailbox, [id]);
    },
    async get(id) {
      const mailbox = await index.findMailbox(id);
      return mailbox === undefined ? undefined : readDelivery(deps, mailbox, id);
    },
    list: (query) => listDeliveries(deps, query),
    async getRaw(id) {
      const mailbox = await index.findMailbox(id);
      return mailbox === undefined ? undefined : readMessage(redis, placeOf(keys, mailbox, id), deps.vault);
    },
    async claim(id, ttlMs, early) {
      const mailbox = await index.findMailbox(id);
      if (mailbox === undefined) return undefined;
      const reply = await redis.run(CLAIM, keys.mailboxPrefix(mailbox), [
        id,
        ttlMs,
        early ? Number.MAX_SAFE_INTEGER : clock.now(),
      ]);
      if (reply === null) return undefined;
      const [until, record] = listOf(reply);
      await index.setDueTime(id, numberOf(until));
      return parseDelivery(textOf(record));
    },
    async renew(id, ttlMs) {
      const mailbox = await index.findMailbox(id);
      if (mailbox === undefined) return;
      const until = await redis.run(RENEW, keys.mailboxPrefix(mailbox), [id, ttlMs]);
      if (until !== null) await index.setDueTime(id, numberOf(until));
    },
    listRetrying: (query) => listRetryingDeliveries(deps, query),
    async getCounts() {
      const [[retrying = 0, parked = 0, delivered = 0], spoolBytes] = await Promise.all([
        Promise.all((["retrying", "parked", "delivered"] as const).map((state) => index.countState(state, "-"))),
        index.getSpoolBytes(),
      ]);
      return { retrying, parked, delivered, spoolBytes };
    },
  };
}

function placeOf(keys: RedisKeys, mailbox: string, id: string): MessagePlace {
  return { prefix: keys.mailboxPrefix(mailbox), kind: "raw:", id };
}

async function writeRecord({ redis, keys, window }: RedisDeliveriesDeps, delivery: Delivery): Promise<string[]> {
  const { id, mailbox, state, createdAt, nextAttemptAt, ref } = delivery;
  const due = nextAttemptAt === null ? 0 : Date.parse(nextAttemptAt);
  const record = [id, state, due, timeKey(Date.parse(createdAt)), JSON.stringify(delivery)];
  const args = [...window.scriptArguments(), ...record, ref.folder, ref.epoch, ref.uid];
  return textsOf(await redis.run(SAVE, keys.mailboxPrefix(mailbox), args));
}

export async function dropDelivered(
  { redis, keys }: Pick<RedisDeliveriesDeps, "redis" | "keys">,
  mailbox: string,
  ids: string[],
): Promise<void> {
  await redis.run(DROP, keys.mailboxPrefix(mailbox), ids);
}
