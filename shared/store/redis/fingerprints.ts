/**
 * The window of content fingerprints in Redis. Claimed fingerprints are in flight and stored whole. Delivered ones are
 * the bulk, so each takes only about 20 bytes: an 8-byte field and a value of place, time and uid, in small hashes that
 * expire as a whole.
 *
 * Time is divided into generations of half a window. The hashes of a generation expire one window after its end. In a
 * generation, level n has 8^n hashes. Bytes of the fingerprint that the field does not hold choose the hash. When a
 * hash has LIMIT entries, the next level is used. So a hash stays a listpack (below hash-max-listpack-entries, 512 by
 * default). A quiet mailbox has one small hash in a generation. In a busy one a lookup reads at most one entry per
 * level and generation.
 *
 * The 8 bytes and the choice of the hash are enough: with a million messages in a mailbox's window, the chance that a
 * new message is taken for a delivered one is below 1 in 10^13. The place is 3 bytes of a hash of folder and epoch. If
 * two folders share them, a moved copy is taken for a twin and delivered, not lost.
 *
 * A zero before the expiry of a claim, and before the bytes of a delivered one's uid, marks a message that is perhaps
 * known: it may have had a lower uid before.
 */

/** The window in milliseconds, and the time before which everything is forgotten although it is still in the window. */
export type FingerprintWindow = {
  scriptArguments(): [windowMs: number, forgottenBefore: number];
  forgetBefore(before: number): void;
};

export function fingerprintWindow(windowDays: number): FingerprintWindow {
  let forgottenBefore = 0;
  return {
    scriptArguments: () => [Math.round(windowDays * 24 * 60 * 60 * 1000), forgottenBefore],
    forgetBefore(before) {
      forgottenBefore = Math.max(forgottenBefore, Math.floor(before));
    },
  };
}

/** Needs LUA_CLOCK and LUA_LEDGER before it. ARGV[1] and ARGV[2] are the window's values. */
export const LUA_FINGERPRINTS = `
  local LIMIT = 384
  local window = tonumber(ARGV[1])
  local period = math.ceil(window / 2)
  local function bytesOf(hex) return (hex:gsub('..', function(two) return string.char(tonumber(two, 16)) end)) end
  local function tagOf(folder, epoch) return bytesOf(redis.sha1hex(epoch .. '\\0' .. folder):sub(1, 6)) end
  local function hashOf(generation, level, print)
    return base .. 'print:' .. generation .. ':' .. level .. ':' .. tonumber(print:sub(1, 8), 16) % 8 ^ level
  end

  -- A claimed fingerprint has its whole place and its expiry. A delivered one has a tag of its place and the uid.
  local function findPrint(print)
    local claim = redis.call('HGET', base .. 'claims', print)
    if claim then
      local expires, place = claim:match('^(%d+) (.*)$')
      local epoch, uid, folder = partsOf(place)
      local tag, perhaps = tagOf(folder, epoch), claim:sub(1, 1) == '0'
      return { expires = tonumber(expires), place = place, tag = tag, uid = uid, perhaps = perhaps }
    end
    local since = math.max(now - window, tonumber(ARGV[2]))
    local field = bytesOf(print:sub(17, 32))
    local levels = redis.call('HGETALL', base .. 'prints')
    for i = 1, #levels, 2 do
      for level = 0, tonumber(levels[i + 1]) do
        local entry = redis.call('HGET', hashOf(levels[i], level, print), field)
        if entry then
          local at = (tonumber(levels[i]) + (entry:byte(4) + 1) / 256) * period
          local uid = 0
          for n = 5, #entry do uid = uid * 256 + entry:byte(n) end
          local perhaps = entry:byte(5) == 0
          if at >= since then return { tag = entry:sub(1, 3), uid = whole(uid), perhaps = perhaps } end
        end
      end
    end
    return nil
  end

  -- A server never assigns a uid twice in one folder and epoch (RFC 9051 section 2.3.1.1): another uid is another message,
  -- unless the later one is perhaps the earlier one.
  local function isTwin(found, folder, epoch, uid)
    if found.tag ~= tagOf(folder, epoch) or found.uid == uid then return false end
    return not (found.perhaps and tonumber(uid) < tonumber(found.uid))
  end

  local function letGo(print, place)
    local prints = redis.call('HGET', base .. 'held', place) or ''
    local kept = ''
    for one in prints:gmatch('%x+') do if one ~= print then kept = kept .. one .. ' ' end end
    if kept == '' then redis.call('HDEL', base .. 'held', place) else redis.call('HSET', base .. 'held', place, kept) end
  end

  local function takePrint(found, print, place, ttl, perhaps)
    if found and not found.expires then return 'duplicate' end
    if found and found.place ~= place then
      if found.expires > now then return 'busy' end
      letGo(print, found.place)
    end
    redis.call('HSET', base .. 'claims', print, (perhaps and '0' or '') .. whole(now + ttl) .. ' ' .. place)
    if not found or found.place ~= place then
      local prints = redis.call('HGET', base .. 'held', place) or ''
      redis.call('HSET', base .. 'held', place, prints .. print .. ' ')
    end
    -- An abandoned claim (its folder was renumbered) expires when the mailbox has been quiet for a window.
    redis.call('PEXPIRE', base .. 'claims', window + ttl)
    redis.call('PEXPIRE', base .. 'held', window + ttl)
    return 'new'
  end

  -- The dropped fingerprints, each with whether its message is perhaps known.
  local function dropClaimed(place)
    local prints = redis.call('HGET', base .. 'held', place)
    if not prints then return {} end
    local dropped = {}
    for print in prints:gmatch('%x+') do
      local claim = redis.call('HGET', base .. 'claims', print)
      dropped[#dropped + 1] = { print, claim and claim:sub(1, 1) == '0' }
      redis.call('HDEL', base .. 'claims', print)
    end
    redis.call('HDEL', base .. 'held', place)
    return dropped
  end

  local function newGeneration(generation)
    local levels = redis.call('HGETALL', base .. 'prints')
    for i = 1, #levels, 2 do
      if (tonumber(levels[i]) + 1) * period + window < now then redis.call('HDEL', base .. 'prints', levels[i]) end
    end
    redis.call('HSET', base .. 'prints', generation, 0)
    redis.call('PEXPIRE', base .. 'prints', 2 * window)
    return 0
  end

  local function remember(print, folder, epoch, uid, perhaps)
    local generation = math.floor(now / period)
    local level = tonumber(redis.call('HGET', base .. 'prints', generation)) or newGeneration(generation)
    local tick = math.floor((now / period - generation) * 256)
    local number, digits = tonumber(uid), ''
    while number > 0 do
      digits = string.char(number % 256) .. digits
      number = math.floor(number / 256)
    end
    if perhaps then digits = '\\0' .. digits end
    local key = hashOf(generation, level, print)
    redis.call('HSET', key, bytesOf(print:sub(17, 32)), tagOf(folder, epoch) .. string.char(tick) .. digits)
    local entries = redis.call('HLEN', key)
    if entries == 1 then redis.call('PEXPIREAT', key, (generation + 1) * period + window) end
    if entries >= LIMIT then redis.call('HSET', base .. 'prints', generation, level + 1) end
  end

  local function finishPrints(folder, epoch, uid)
    for _, one in ipairs(dropClaimed(placeOf(folder, epoch, uid))) do
      remember(one[1], folder, epoch, uid, one[2])
    end
  end

  local function forgetPrints()
    local levels = redis.call('HGETALL', base .. 'prints')
    for i = 1, #levels, 2 do
      for level = 0, tonumber(levels[i + 1]) do
        for n = 0, 8 ^ level - 1 do redis.call('UNLINK', base .. 'print:' .. levels[i] .. ':' .. level .. ':' .. n) end
      end
    end
    redis.call('UNLINK', base .. 'prints', base .. 'claims', base .. 'held')
  end
`;
