/** Cursors in Redis, and the fences that guard them. A fence lives with its mailbox's keys, in the same hash as the lease's owner. */
import type { Cursor } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { type RedisConnection, redisScript } from "../redis-client.ts";
import type { RedisKeys } from "./keys.ts";
import { LUA_CLOCK, LUA_LEDGER, places } from "./ledger.ts";
import { numberOf, recordOf } from "../redis-reply.ts";
import type { Cursors } from "../store.ts";

/**
 * A fence is the last one and one more, but at least Redis' clock in milliseconds: so it keeps growing over a mailbox that is removed
 * and made again, and over a Redis that was emptied or lost its last writes in a fail-over.
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
    -- At or below the cursor, a message without an entry is done: it must not come back.
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
 * A cursor that Redis lost (a fail-over that dropped the last writes) is an older cursor: what lies after it is handed over again, and
 * the ledger suppresses what was delivered. A mailbox without any cursor (Redis was emptied and the mailbox registered again)
 * is watched from its `since`.
 */
export function redisCursors(redis: RedisConnection, keys: RedisKeys): Cursors {
  return {
    fence: async (mailbox) => numberOf(await redis.run(FENCE, keys.mailbox(mailbox), [])),
    async read(mailbox) {
      const fields = new Map(recordOf(await redis.run(READ, keys.mailbox(mailbox), [])));
      const folders = [...fields.keys()].filter((field) => !field.startsWith("\0"));
      return folders.toSorted().map((folder) => cursorOf(folder, fields.get(folder) ?? "", fields.get(`\0${folder}`)));
    },
    async advance(mailbox, cursor, messages, fence) {
      const { folder, epoch, uid, newest, state } = cursor;
      const args = [fence, folder, epoch, uid, newest, state === null ? "" : `=${state}`, ...places(messages)];
      if (numberOf(await redis.run(ADVANCE, keys.mailbox(mailbox), args)) === 1) return;
      throw new Problem("conflict", `The mailbox ${mailbox} has another owner now, or was removed`, { retry: "never" });
    },
    async reopen(mailbox, messages) {
      // In slices: a resync may name a hundred thousand messages, and nobody else has a turn while a script runs.
      for (let from = 0; from < messages.length; from += SLICE) {
        await redis.run(REOPEN, keys.mailbox(mailbox), places(messages.slice(from, from + SLICE)));
      }
    },
  };
}

const SLICE = 1_000;

function cursorOf(folder: string, mark: string, state: string | undefined): Cursor {
  const [, uid, newest, epoch] = /^(\d+) (\S*) (.*)$/s.exec(mark) ?? [];
  if (uid === undefined || newest === undefined || epoch === undefined) {
    throw new Problem("store", "Redis holds a cursor that cannot be read", { retry: "never" });
  }
  return { folder, epoch, uid: Number(uid), state: state ? state.slice(1) : null, newest };
}
