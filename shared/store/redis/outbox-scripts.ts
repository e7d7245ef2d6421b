/** The scripts of the outbox in Redis. Each of them decides and writes in one step, over the keys of one mailbox. */
import { SendState } from "../../contract/sending.ts";
import { redisScript } from "./connection/script.ts";
import { LUA_CLOCK } from "./lua.ts";

export const HOUR_MS = 3_600_000;
/**
 * The clocks of nodes differ a little. So a sending counts as due this much too early, because otherwise its task might
 * find it not due.
 */
const CLOCK_SKEW_MS = 500;

/** An entry of a mailbox's `outbox`: state, revision, due time, time of creation (base 36), document. */
const LUA_OUTBOX = `
  local function sendingOf(id)
    local record = redis.call('HGET', base .. 'outbox', id)
    if not record then return nil end
    local state, revision, due, made, doc = record:match('^(%l+) (%d+) (%d+) (%w+) (.*)$')
    return { state = state, revision = revision, due = tonumber(due), key = made .. id, doc = doc }
  end
  local function write(id, state, revision, due, made, doc)
    redis.call('HSET', base .. 'outbox', id, state .. ' ' .. revision .. ' ' .. due .. ' ' .. made .. ' ' .. doc)
    redis.call('ZADD', base .. 'outbox:list:' .. state, 0, made .. id)
  end
`;

export const ACCEPT = redisScript(
  LUA_CLOCK,
  LUA_OUTBOX,
  `
  local id, key, due, made, doc, perHour, messageId = unpack(ARGV)
  if key ~= '' then
    local before = redis.call('HGET', base .. 'outbox:keys', key)
    local record = before and sendingOf(before)
    if record then return { 'known', record.doc } end
  end
  redis.call('ZREMRANGEBYSCORE', base .. 'outbox:hour', '-inf', now - ${HOUR_MS})
  if redis.call('ZCARD', base .. 'outbox:hour') >= tonumber(perHour) then
    local nth = redis.call('ZREVRANGE', base .. 'outbox:hour', perHour - 1, perHour - 1, 'WITHSCORES')
    return { 'limited', whole(nth[2] + ${HOUR_MS}) }
  end
  redis.call('ZADD', base .. 'outbox:hour', now, id)
  redis.call('PEXPIRE', base .. 'outbox:hour', ${HOUR_MS})
  if key ~= '' then redis.call('HSET', base .. 'outbox:keys', key, id) end
  redis.call('HSET', base .. 'outbox:ids', messageId, id)
  redis.call('PERSIST', base .. 'outbox:raw:' .. id)
  write(id, 'queued', 1, due, made, doc)
  return { 'accepted', '' }`,
);

export const CLAIM = redisScript(
  LUA_CLOCK,
  LUA_OUTBOX,
  `
  local record = sendingOf(ARGV[1])
  if not record or record.state ~= 'queued' then return nil end
  if record.due > math.max(now, tonumber(ARGV[3])) + ${CLOCK_SKEW_MS} then return nil end
  if (tonumber(redis.call('HGET', base .. 'outbox:taken', ARGV[1])) or 0) > now then return nil end
  local till = now + ARGV[2]
  redis.call('HSET', base .. 'outbox:taken', ARGV[1], till)
  return { whole(till), record.doc }`,
);

/** Returns until when the sending stays claimed, or nothing when it was changed meanwhile. */
export const SAVE = redisScript(
  LUA_CLOCK,
  LUA_OUTBOX,
  `
  local id, revision, state, due, made, doc, hold, renamed, spent = unpack(ARGV)
  local record = sendingOf(id)
  if not record or record.revision ~= revision then return nil end
  redis.call('ZREM', base .. 'outbox:list:' .. record.state, record.key)
  write(id, state, whole(revision + 1), due, made, doc)
  if renamed ~= '' then redis.call('HSET', base .. 'outbox:ids', renamed, id) end
  if spent == '1' then redis.call('UNLINK', base .. 'outbox:raw:' .. id) end
  local till = 0
  if hold == '0' then redis.call('HDEL', base .. 'outbox:taken', id)
  else
    till = now + hold
    redis.call('HSET', base .. 'outbox:taken', id, till)
  end
  return whole(till)`,
);

/** Deletes a sending that has ended, with all references to it. */
export const DROP = redisScript(
  LUA_CLOCK,
  LUA_OUTBOX,
  `
  local id, key, messageId, renamed = unpack(ARGV)
  local record = sendingOf(id)
  if not record or record.state == 'queued' then return 0 end
  local function dropName(hash, name)
    if name ~= '' and redis.call('HGET', base .. hash, name) == id then redis.call('HDEL', base .. hash, name) end
  end
  dropName('outbox:keys', key)
  dropName('outbox:ids', messageId)
  dropName('outbox:ids', renamed)
  redis.call('ZREM', base .. 'outbox:list:' .. record.state, record.key)
  redis.call('HDEL', base .. 'outbox', id)
  redis.call('HDEL', base .. 'outbox:taken', id)
  redis.call('UNLINK', base .. 'outbox:raw:' .. id)
  return 1`,
);

/** Deletes all outgoing messages of a removed mailbox. The index drops its entries when somebody meets them. */
export const LUA_FORGET_OUTBOX = `
  local function forgetOutbox()
    for _, id in ipairs(redis.call('HKEYS', base .. 'outbox')) do redis.call('UNLINK', base .. 'outbox:raw:' .. id) end
    redis.call('UNLINK', base .. 'outbox', base .. 'outbox:taken', base .. 'outbox:keys', base .. 'outbox:ids',
      base .. 'outbox:hour'${SendState.options.map((state) => `, base .. 'outbox:list:${state}'`).join("")})
  end
`;

export const COUNT_AUTOMATIC = redisScript(`
  local count = redis.call('INCR', KEYS[1] .. ARGV[1])
  if count == 1 then redis.call('PEXPIRE', KEYS[1] .. ARGV[1], ${HOUR_MS}) end
  return count`);
