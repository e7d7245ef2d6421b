/** Cursors in Redis, and the fences that guard them. A fence lives with its mailbox's keys, in the same hash as the lease's owner. */
import * as v from "valibot";
import { Cursor } from "../contract/message.ts";
import { Problem } from "../contract/problem.ts";
import { type RedisConnection, redisScript } from "./redis-client.ts";
import type { RedisKeys } from "./redis-keys.ts";
import { LUA_CLOCK, LUA_LEDGER, places } from "./redis-ledger.ts";
import { numberOf, textsOf } from "./redis-reply.ts";
import type { Cursors } from "./store.ts";

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
  local cursor = cjson.decode(ARGV[2])
  local folder, epoch = cursor.folder, cursor.epoch
  local stored = redis.call('HGET', base .. 'cursors', folder)
  local before = stored and cjson.decode(stored) or nil
  local same = before and before.epoch == epoch
  for i = 3, #ARGV, 3 do
    -- At or below the cursor, a message without an entry is done: it must not come back.
    if not same or tonumber(ARGV[i + 2]) > before.uid then
      local place = placeOf(ARGV[i], ARGV[i + 1], ARGV[i + 2])
      if redis.call('HEXISTS', base .. 'ahead', place) == 0 then redis.call('HSETNX', base .. 'open', place, 0) end
    end
  end
  if same then
    cursor.uid = math.max(cursor.uid, before.uid)
    if before.newest > cursor.newest then cursor.newest = before.newest end
  end
  redis.call('HSET', base .. 'cursors', folder, cjson.encode(cursor))
  local function drop(key, unwanted)
    for _, place in ipairs(redis.call('HKEYS', base .. key)) do
      local e, uid, f = partsOf(place)
      if f == folder and unwanted(e, tonumber(uid)) then redis.call('HDEL', base .. key, place) end
    end
  end
  drop('ahead', function(e, uid) return e == epoch and uid <= cursor.uid end)
  if before and not same then
    for _, key in ipairs({ 'open', 'ahead' }) do drop(key, function(e) return e ~= epoch end) end
  end
  return 1`,
);

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
      const docs = textsOf(await redis.send("hvals", [`${keys.mailbox(mailbox)}cursors`]));
      const cursors = docs.map((doc) => v.parse(Cursor, JSON.parse(doc)));
      return cursors.toSorted((a, b) => (a.folder < b.folder ? -1 : 1));
    },
    async advance(mailbox, cursor, messages, fence) {
      const args = [fence, JSON.stringify(cursor), ...places(messages)];
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
