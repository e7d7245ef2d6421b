/** Lua code with which several scripts begin. */
import { RESYNC_EPOCH } from "../../contract/message.ts";

/**
 * Every script over one mailbox begins with this. `now` is in milliseconds. Lua's `..` rounds large numbers; `whole`
 * does not.
 */
export const LUA_CLOCK = `
  local base = KEYS[1]
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local function whole(number) return string.format('%.0f', number) end
`;

/**
 * Functions of the ledger. `low` returns the cursor's uid in this folder and epoch, and 0 when there is none and for
 * messages of a resync. `cursors` has two fields for each folder: the folder's name, with the position that scripts
 * read, and the name after a NUL, with the protocol's state of any size.
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
  local AGAIN = '${RESYNC_EPOCH}'
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
