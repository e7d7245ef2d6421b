/**
 * Cursors in Redis, and the fences that guard them. A fence is stored with its mailbox's keys, in the same hash as the
 * lease's owner.
 */
import type { Cursor } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import type { RedisKeys } from "./keys.ts";
import { messageArguments } from "./ledger.ts";
import { numberOf, recordOf } from "./connection/reply.ts";
import type { Cursors } from "../store.ts";
import { LUA_CLOCK, LUA_LEDGER } from "./lua.ts";

/**
 * A fence is the last one plus one, but at least Redis' clock in milliseconds. So it keeps growing when a mailbox is
 * removed and registered again, when Redis was emptied, and when a fail-over lost the last writes.
 */
export const LUA_FENCE = `
  local function nextFence()
    local fence = math.max((tonumber(redis.call('HGET', base .. 'lease', 'fence')) or 0) + 1, now)
    redis.call('HSET', base .. 'lease', 'fence', fence)
    return whole(fence)
  end
`;

const FENCE = redisScript(
  LUA_CLOCK,
  LUA_FENCE,
  `
  redis.call('HDEL', base .. 'lease', 'session')
  return nextFence()`,
);

const ADVANCE = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  `
  if redis.call('HGET', base .. 'lease', 'fence') ~= ARGV[1] then return 0 end
  local folder, epoch, reached, newest, state = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
  local before = markOf(folder)
  local same = before and before.epoch == epoch
  for i = 7, #ARGV, 3 do
    -- A message at or below the cursor without an entry is done. It must not get an entry again.
    if not same or tonumber(ARGV[i + 2]) > before.uid then
      local place = placeOf(ARGV[i], ARGV[i + 1], ARGV[i + 2])
      if redis.call('HEXISTS', base .. 'ahead', place) == 0 then redis.call('HSETNX', base .. 'open', place, 0) end
    end
  end
  if same then
    reached = math.max(reached, before.uid)
    if before.newest > newest then newest = before.newest end
  end
  redis.call('HSET', base .. 'cursors', folder, whole(reached) .. ' ' .. newest .. ' ' .. epoch, '\\0' .. folder, state)
  local function drop(key, unwanted)
    for _, place in ipairs(redis.call('HKEYS', base .. key)) do
      local e, uid, f = partsOf(place)
      if f == folder and unwanted(e, tonumber(uid)) then redis.call('HDEL', base .. key, place) end
    end
  end
  drop('ahead', function(e, uid) return e == epoch and uid <= reached end)
  if before and not same then
    for _, key in ipairs({ 'open', 'ahead' }) do drop(key, function(e) return e ~= epoch and e ~= AGAIN end) end
  end
  return 1`,
);

const READ = redisScript("return redis.call('HGETALL', KEYS[1] .. 'cursors')");

const REOPEN = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  `
  for i = 1, #ARGV, 3 do
    local place = placeOf(ARGV[i], ARGV[i + 1], ARGV[i + 2])
    local held = redis.call('HGET', base .. 'open', place)
    if not held or tonumber(held) <= now then
      redis.call('HSET', base .. 'open', place, 0)
      redis.call('HDEL', base .. 'ahead', place)
    end
  end
  return 1`,
);

/**
 * If Redis lost the newest cursor (a fail-over dropped the last writes), an older cursor is left. Then what comes after
 * it is handed over again, and the ledger suppresses what was delivered. A mailbox without any cursor (Redis was
 * emptied and the mailbox registered again) starts at its `since`.
 */
export function redisCursors(redis: RedisConnection, keys: RedisKeys): Cursors {
  return {
    issueFence: async (mailbox) => numberOf(await redis.run(FENCE, keys.mailboxPrefix(mailbox), [])),
    async read(mailbox) {
      const fields = new Map(recordOf(await redis.run(READ, keys.mailboxPrefix(mailbox), [])));
      const folders = [...fields.keys()].filter((field) => !field.startsWith("\0"));
      return folders
        .toSorted()
        .map((folder) => parseCursor(folder, fields.get(folder) ?? "", fields.get(`\0${folder}`)));
    },
    async advance(mailbox, cursor, messages, fence) {
      const { folder, epoch, uid, newest, state } = cursor;
      const args = [
        fence,
        folder,
        epoch,
        uid,
        newest,
        state === null ? "" : `=${state}`,
        ...messageArguments(messages),
      ];
      if (numberOf(await redis.run(ADVANCE, keys.mailboxPrefix(mailbox), args)) === 1) return;
      throw new Problem("conflict", `The mailbox ${mailbox} has another owner now, or was removed`, { retry: "never" });
    },
    async reopen(mailbox, messages) {
      // In batches, because a resync may name a hundred thousand messages and Redis does nothing else while a script
      // runs.
      for (let from = 0; from < messages.length; from += BATCH_SIZE) {
        await redis.run(REOPEN, keys.mailboxPrefix(mailbox), messageArguments(messages.slice(from, from + BATCH_SIZE)));
      }
    },
  };
}

const BATCH_SIZE = 1_000;

function parseCursor(folder: string, entry: string, state: string | undefined): Cursor {
  const [, uid, newest, epoch] = /^(\d+) (\S*) (.*)$/s.exec(entry) ?? [];
  if (uid === undefined || newest === undefined || epoch === undefined) {
    throw new Problem("store", "Redis holds a cursor that cannot be read", { retry: "never" });
  }
  return { folder, epoch, uid: Number(uid), state: state ? state.slice(1) : null, newest };
}
