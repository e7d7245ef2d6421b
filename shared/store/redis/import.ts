/** Fingerprints of delivered content brought into Redis from another store, each with the time it was delivered. */
import { type RedisConnection, redisScript } from "../redis-client.ts";
import type { RedisKeys } from "./keys.ts";
import { LUA_CLOCK, LUA_LEDGER } from "./ledger.ts";
import { LUA_PRINTS, printWindow } from "./fingerprints.ts";

/** `print` in hex; `at` in ms since 1970. */
export type DeliveredPrint = { print: string; folder: string; epoch: string; uid: number; at: number };

/** A print falls out of the window when it would have done so where it came from: the clock is that of its delivery. */
const IMPORT = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_PRINTS,
  `
  for i = 3, #ARGV, 5 do
    now = tonumber(ARGV[i + 4])
    remember(ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3])
  end
  return 1`,
);

const SLICE = 200;

/** Doing it again with the same prints changes nothing that matters. */
export async function importPrints(
  { redis, keys, windowDays }: { redis: RedisConnection; keys: RedisKeys; windowDays: number },
  mailbox: string,
  prints: readonly DeliveredPrint[],
): Promise<void> {
  const oldestFirst = prints.toSorted((a, b) => a.at - b.at);
  for (let from = 0; from < oldestFirst.length; from += SLICE) {
    const some = oldestFirst.slice(from, from + SLICE);
    const args = some.flatMap(({ print, folder, epoch, uid, at }) => [print, folder, epoch, uid, at]);
    await redis.run(IMPORT, keys.mailbox(mailbox), [...printWindow(windowDays).values(), ...args]);
  }
}
