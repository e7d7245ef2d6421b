/**
 * The shared store: everything that the nodes must agree on in one Redis (a server, a master behind Sentinels, or a
 * cluster).
 */
import { pruneAudit, redisAudit } from "./access/audit.ts";
import { redisApplications } from "./access/applications.ts";
import { redisConsents } from "./access/consents.ts";
import { redisDocuments } from "./access/documents.ts";
import { redisWrongCredentials } from "./access/wrong-credentials.ts";
import { pruneTokens, redisTokens } from "./access/tokens.ts";
import { randomUUID } from "node:crypto";
import { type RedisConnection, redisConnection } from "./connection/client.ts";
import { checkServer, measureServers } from "./checks.ts";
import { redisCursors } from "./cursors.ts";
import { redisDeliveries } from "./deliveries/deliveries.ts";
import { redisDeliveryIndex } from "./deliveries/indexes.ts";
import { redisFacts } from "./facts.ts";
import { redisKeys } from "./keys.ts";
import { redisLedger } from "./ledger.ts";
import { redisConnections } from "./measured/connections.ts";
import { redisMeasures } from "./measured/measures.ts";
import { redisOrderedMailboxes } from "./measured/order.ts";
import { redisMailboxes, purgeRemovedMailboxes } from "./mailboxes.ts";
import { pruneSent, redisOutbox } from "./outbox.ts";
import { redisOutboxIndex } from "./outbox-index.ts";
import { fingerprintWindow } from "./fingerprints.ts";
import { redisRegistry } from "./registry.ts";
import { redisLocks } from "./locks.ts";
import { redisRefusedLogins } from "./refused-logins.ts";
import { redisCanaries } from "./sealing/canaries.ts";
import { checkKeys, rotateKeys } from "./sealing/rotation.ts";
import { redisConnectionSlots } from "./connection-slots.ts";
import { pruneDelivered, repairIndex } from "./trim.ts";
import type { Store } from "../store.ts";
import { mailboxSealing } from "../mailbox-sealing.ts";
import type { Vault } from "../vault.ts";

/** The store together with its connection and with warnings about the server for the administrator. */
export type RedisStore = Store & { readonly redis: RedisConnection; readonly warnings: readonly string[] };

export type RedisStoreOptions = {
  /** REDIS_URL, see connection/url.ts. */
  url: string;
  /** PEM of the certificate authorities to trust for rediss://, instead of the system's. */
  ca?: string | undefined;
  /** The prefix of all keys, so that one Redis can serve several installations. */
  prefix: string;
  vault: Vault;
  /** How long fingerprints and delivered records are kept. */
  windowDays: number;
  /** The limit for spooled messages, in compressed bytes. */
  spoolBytes: number;
};

const DAY_MS = 24 * 60 * 60 * 1000;
const PING_MS = 1_000;

/**
 * Opens the store. Throws `store` when Redis does not answer. Throws `config` when Redis may evict keys (any policy but
 * noeviction), or when a key that encrypted something in it is missing or wrong.
 *
 * Acknowledged writes survive kill -9 of Redis with `appendonly yes` and `appendfsync always`. With `everysec` the last
 * second may be lost, and a fail-over may lose the last writes. Then the cursors are older. The service sees the mail
 * again, and delivers it again only if the ledger lost the same second.
 */
export async function redisStore(options: RedisStoreOptions): Promise<RedisStore> {
  const { vault, windowDays, spoolBytes } = options;
  const keys = redisKeys(options.prefix);
  const redis = await redisConnection(options.url, options.ca);
  try {
    const warnings = await checkServer(redis);
    const registry = redisRegistry(redis, keys);
    await registry.beginEra(randomUUID());
    const sealing = mailboxSealing(vault);
    const canaries = redisCanaries(redis, keys, sealing);
    const keyDeps = { redis, keys, registry, vault, sealing, canaries };
    await rotateKeys(keyDeps);
    const announceKey = canaries.announce;
    const window = fingerprintWindow(windowDays);
    const index = redisDeliveryIndex(redis, keys, spoolBytes);
    const learnKeys = async () => void (await canaries.learn());
    const mailboxes = { ...keyDeps, window, forgetDeliveries: index.remove, announceKey, learnKeys };
    const deliveries = { ...keyDeps, window, index, announceKey };
    const outbox = { ...keyDeps, announceKey, index: redisOutboxIndex(redis, keys, spoolBytes) };
    const tokens = redisTokens({ ...keyDeps, announceKey });
    const endpointSlots = await redisConnectionSlots(redis, keys);
    return {
      description: `redis ${redis.displayUrl}, prefix ${keys.prefix}${warnings.map((warning) => `; ${warning}`).join("")}`,
      redis,
      warnings,
      mailboxes: redisMailboxes(mailboxes),
      applications: redisApplications({ ...keyDeps, announceKey }),
      consents: redisConsents({ ...keyDeps, announceKey }),
      documents: redisDocuments(redis, keys),
      cursors: redisCursors(redis, keys),
      ledger: redisLedger(redis, keys, window),
      deliveries: redisDeliveries(deliveries),
      outbox: redisOutbox(outbox),
      connectionSlots: endpointSlots,
      facts: redisFacts(redis, keys, windowDays * DAY_MS),
      measures: redisMeasures(redis, keys),
      orderedMailboxes: redisOrderedMailboxes(redis, keys),
      connections: redisConnections(redis, keys),
      tokens,
      audit: redisAudit(redis, keys),
      locks: redisLocks(redis, keys),
      wrongCredentials: redisWrongCredentials(redis, keys),
      refusedLogins: redisRefusedLogins(redis, keys, vault),
      checkKeys: () => checkKeys(keyDeps),
      async ping() {
        await redis.send("ping", [], PING_MS);
      },
      measure: () => measureServers(redis),
      async trim(now) {
        const before = now.getTime() - windowDays * DAY_MS;
        window.forgetBefore(before);
        await pruneDelivered(deliveries, before);
        await pruneSent(outbox, before);
        await purgeRemovedMailboxes(mailboxes);
        await repairIndex(deliveries);
        await pruneTokens(tokens, now);
        await pruneAudit(redis, keys, now);
      },
      close: () => redis.close(),
    };
  } catch (error) {
    await redis.close();
    throw error;
  }
}
