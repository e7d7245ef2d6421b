/** The shared store: everything the nodes must agree on in one Redis (a server, one behind Sentinels, or a cluster). */
import { randomUUID } from "node:crypto";
import { type RedisConnection, redisConnection } from "../redis-client.ts";
import { checkServer, reseal } from "./checks.ts";
import { redisCursors } from "./cursors.ts";
import { redisDeliveries } from "../redis-deliveries.ts";
import { redisDeliveryIndex } from "../redis-delivery-index.ts";
import { redisFacts } from "./facts.ts";
import { redisKeys } from "./keys.ts";
import { redisLedger } from "./ledger.ts";
import { redisMailboxes, sweepRemoved } from "./mailboxes.ts";
import { forgetSent, redisOutbox } from "./outbox.ts";
import { redisOutboxIndex } from "./outbox-index.ts";
import { printWindow } from "./fingerprints.ts";
import { redisRegistry } from "./registry.ts";
import { redisSeats } from "../redis-seats.ts";
import { forgetDelivered, mendIndex } from "./trim.ts";
import type { Store } from "../store.ts";
import type { Vault } from "../vault.ts";

/** The store together with its connection and what an administrator should change about the server. */
export type RedisStore = Store & { readonly redis: RedisConnection; readonly warnings: readonly string[] };

export type RedisOptions = {
  /** REDIS_URL, see redis-url.ts. */
  url: string;
  /** PEM of the authorities to trust for rediss://, instead of the system's. */
  ca?: string | undefined;
  /** What all keys begin with, so that one Redis can serve several installations. */
  prefix: string;
  vault: Vault;
  /** How long fingerprints and delivered records are kept. */
  windowDays: number;
  /** Room for spooled messages, counted compressed. */
  spoolBytes: number;
};

const DAY_MS = 24 * 60 * 60 * 1000;
const PING_MS = 1_000;

/**
 * Opens the store. Throws `store` when Redis does not answer, and `config` when it may drop keys by itself (any eviction policy but
 * noeviction), or when a key that sealed something in it is missing or wrong.
 *
 * What is acknowledged survives kill -9 of Redis with `appendonly yes` and `appendfsync always`; with `everysec` the last second may go, as may
 * the last writes in a fail-over. Then cursors are older than they were: the mail is seen again, and delivered again only
 * if the ledger lost the same second.
 */
export async function redisStore(options: RedisOptions): Promise<RedisStore> {
  const { vault, windowDays, spoolBytes } = options;
  const keys = redisKeys(options.prefix);
  const redis = await redisConnection(options.url, options.ca);
  try {
    const warnings = await checkServer(redis);
    const registry = redisRegistry(redis, keys);
    await registry.beginEra(randomUUID());
    await reseal({ redis, keys, registry, vault });
    const window = printWindow(windowDays);
    const index = redisDeliveryIndex(redis, keys, spoolBytes);
    const mailboxes = { redis, keys, vault, window, registry, forgetDeliveries: index.forget };
    const deliveries = { redis, keys, window, index };
    const outbox = { redis, keys, index: redisOutboxIndex(redis, keys, spoolBytes) };
    const seats = await redisSeats(redis, keys);
    return {
      description: `redis ${redis.shown}, prefix ${keys.prefix}${warnings.map((warning) => `; ${warning}`).join("")}`,
      redis,
      warnings,
      mailboxes: redisMailboxes(mailboxes),
      cursors: redisCursors(redis, keys),
      ledger: redisLedger(redis, keys, window),
      deliveries: redisDeliveries(deliveries),
      outbox: redisOutbox(outbox),
      seats,
      facts: redisFacts(redis, keys, windowDays * DAY_MS),
      async ping() {
        await redis.send("ping", [], PING_MS);
      },
      async trim(now) {
        const before = now.getTime() - windowDays * DAY_MS;
        window.forget(before);
        await forgetDelivered(deliveries, before);
        await forgetSent(outbox, before);
        await sweepRemoved(mailboxes);
        await mendIndex(deliveries);
      },
      close: () => redis.close(),
    };
  } catch (error) {
    await redis.close();
    throw error;
  }
}
