/**
 * The ledger in Redis. Done messages need no entry: they lie at or below their folder's cursor. `open` holds what is in flight,
 * `ahead` what was done before the cursor passed it. Every step is one script over the keys of one mailbox, with Redis' own clock.
 */
import { createHash } from "node:crypto";
import { AGAIN, type MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import { type RedisConnection, redisScript } from "../redis-client.ts";
import type { RedisKeys } from "./keys.ts";
import { LUA_PRINTS, type PrintWindow } from "./fingerprints.ts";
import { listOf, textsOf } from "../redis-reply.ts";
import type { Claim, Ledger } from "../store.ts";

/** What every script over one mailbox begins with. `now` is in milliseconds. Lua's `..` would round large numbers, `whole` does not. */
export const LUA_CLOCK = `
  local base = KEYS[1]
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local function whole(number) return string.format('%.0f', number) end
`;

/**
 * The ledger's own words: `low` is the cursor's uid in this folder and epoch, 0 when it has none there; what is looked up again lies below
 * all cursors. `cursors` has two fields for a
 * folder: its name, with the mark that scripts read, and its name after a NUL, with what the protocol keeps, however large.
 */
export const LUA_LEDGER = `
  local marks = {}
  local function markOf(folder)
    if marks[folder] == nil then
      local mark = redis.call('HGET', base .. 'cursors', folder)
      marks[folder] = false
      if mark then
        local uid, newest, epoch = mark:match('^(%d+) (%S*) (.*)$')
        marks[folder] = { uid = tonumber(uid), newest = newest, epoch = epoch }
      end
    end
    return marks[folder]
  end
  local AGAIN = '${AGAIN}'
  local function low(folder, epoch)
    if epoch == AGAIN then return math.huge end
    local mark = markOf(folder)
    return mark and mark.epoch == epoch and mark.uid or 0
  end
  local function placeOf(folder, epoch, uid) return epoch .. '\\0' .. uid .. '\\0' .. folder end
  local function partsOf(place) return place:match('^(%Z*)%z(%d+)%z(.*)$') end
  local function done(folder, epoch, uid)
    local place = placeOf(folder, epoch, uid)
    redis.call('HDEL', base .. 'open', place)
    if tonumber(uid) > low(folder, epoch) then redis.call('HSET', base .. 'ahead', place, 1) end
  end
`;

const CLAIM = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  `
  local claims = {}
  for i = 2, #ARGV, 3 do
    local folder, epoch, uid = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    local place = placeOf(folder, epoch, uid)
    local held = redis.call('HGET', base .. 'open', place)
    local claim = 'yours'
    if held then
      if tonumber(held) > now then claim = 'busy' end
    elseif tonumber(uid) <= low(folder, epoch) or redis.call('HEXISTS', base .. 'ahead', place) == 1 then
      claim = 'done'
    end
    if claim == 'yours' then redis.call('HSET', base .. 'open', place, now + ARGV[1]) end
    claims[#claims + 1] = claim
  end
  return claims`,
);

const KEEP = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  `
  for i = 2, #ARGV, 3 do
    local place = placeOf(ARGV[i], ARGV[i + 1], ARGV[i + 2])
    local held = redis.call('HGET', base .. 'open', place)
    if held and tonumber(held) > 0 then redis.call('HSET', base .. 'open', place, now + ARGV[1]) end
  end
  return 1`,
);

const RELEASE = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_PRINTS,
  `
  for i = 3, #ARGV, 3 do
    local place = placeOf(ARGV[i], ARGV[i + 1], ARGV[i + 2])
    if redis.call('HEXISTS', base .. 'open', place) == 1 then redis.call('HSET', base .. 'open', place, 0) end
    dropClaimed(place)
  end
  return 1`,
);

const SETTLE = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_PRINTS,
  `
  for i = 3, #ARGV, 3 do
    done(ARGV[i], ARGV[i + 1], ARGV[i + 2])
    dropClaimed(placeOf(ARGV[i], ARGV[i + 1], ARGV[i + 2]))
  end
  return 1`,
);

const IDENTIFY = redisScript(
  LUA_CLOCK,
  LUA_LEDGER,
  LUA_PRINTS,
  `
  local folder, epoch, uid, print, own, ttl = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8])
  local found = findPrint(print)
  if found and isTwin(found, folder, epoch, uid) then
    return { takePrint(findPrint(own), own, placeOf(folder, epoch, uid), ttl), 'twin' }
  end
  return { takePrint(found, print, placeOf(folder, epoch, uid), ttl), 'alone' }`,
);

export function redisLedger(redis: RedisConnection, keys: RedisKeys, window: PrintWindow): Ledger {
  return {
    async claim(mailbox, messages, ttlMs) {
      if (messages.length === 0) return [];
      const reply = await redis.run(CLAIM, keys.mailbox(mailbox), [Math.ceil(ttlMs), ...places(messages)]);
      return textsOf(reply).map(claimOf);
    },
    async keep(mailbox, messages, ttlMs) {
      await redis.run(KEEP, keys.mailbox(mailbox), [Math.ceil(ttlMs), ...places(messages)]);
    },
    async identify(mailbox, message, fingerprint, ttlMs) {
      const own = twinPrint(fingerprint, message);
      const args = [...window.values(), ...places([message]), fingerprint.toLowerCase(), own, Math.ceil(ttlMs)];
      const [kind, twin] = listOf(await redis.run(IDENTIFY, keys.mailbox(mailbox), args));
      if (kind !== "new" && kind !== "duplicate" && kind !== "busy") throw unreadable("an identity");
      return { kind, twin: twin === "twin" };
    },
    async release(mailbox, messages) {
      await redis.run(RELEASE, keys.mailbox(mailbox), [...window.values(), ...places(messages)]);
    },
    async settle(mailbox, messages) {
      await redis.run(SETTLE, keys.mailbox(mailbox), [...window.values(), ...places(messages)]);
    },
  };
}

/** Three arguments for each message: folder, epoch, uid. */
export function places(messages: MessageRef[]): (string | number)[] {
  return messages.flatMap(({ folder, epoch, uid }) => [folder, epoch, uid]);
}

function twinPrint(fingerprint: string, ref: MessageRef): string {
  const place = `${fingerprint}|${ref.folder}|${ref.epoch}|${ref.uid}`;
  return createHash("sha256").update(place).digest("hex").slice(0, 32);
}

function claimOf(text: string): Claim {
  if (text === "yours" || text === "busy" || text === "done") return text;
  throw unreadable("a claim");
}

function unreadable(what: string): Problem {
  return new Problem("store", `Redis answered ${what} that cannot be read`, { retry: "never" });
}
