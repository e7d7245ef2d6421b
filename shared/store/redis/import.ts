/** Imports fingerprints of delivered content from another store, each with the time of its delivery. */
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import type { RedisKeys } from "./keys.ts";
import { LUA_FINGERPRINTS, fingerprintWindow } from "./fingerprints.ts";
import { LUA_CLOCK, LUA_LEDGER } from "./lua.ts";
import type { DeliveredFingerprint } from "../delivered-fingerprint.ts";

/**
 * A fingerprint leaves the window at the same time as it would have in the other store, because it keeps the time of
 * its delivery.
 */
const IMPORT = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_FINGERPRINTS,
  `
  for i = 3, #ARGV, 5 do
    now = tonumber(ARGV[i + 4])
    remember(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  end
  return 1`,
);

const BATCH_SIZE = 200;

/** Importing the same fingerprints again changes nothing that matters. */
export async function importFingerprints(
  { redis, keys, windowDays }: { redis: RedisConnection; keys: RedisKeys; windowDays: number },
  mailbox: string,
  fingerprints: readonly DeliveredFingerprint[],
): Promise<void> {
  const oldestFirst = fingerprints.toSorted((a, b) => a.at - b.at);
  for (let from = 0; from < oldestFirst.length; from += BATCH_SIZE) {
    const batch = oldestFirst.slice(from, from + BATCH_SIZE);
    const args = batch.flatMap(({ print, folder, epoch, uid, at }) => [print, folder, epoch, uid, at]);
    await redis.run(IMPORT, keys.mailboxPrefix(mailbox), [...fingerprintWindow(windowDays).scriptArguments(), ...args]);
  }
}
