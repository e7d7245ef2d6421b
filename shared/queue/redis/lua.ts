/** The Lua functions that the scripts of the queue share. `scripts.ts` says what the keys hold. */

/**
 * A task that came back this often is parked, because it may have killed its processes. After half as often it is a
 * suspect.
 */
export const MAX_RETURNS = 20;
/**
 * Suspects share a lane, and only one task of it is claimed at a time. So a task that kills its process harms no other.
 */
export const SUSPECTS = "@suspects";
/** The list of a process that is gone. Its tasks wait for others long before. */
const OWN_EXPIRES_MS = 60_000;

export const LUA_TASKS = `
  local tasks, holders, taken, due, ready = base .. 'tasks', base .. 'holders', base .. 'taken', base .. 'due', base .. 'ready'

  local function taskOf(id)
    local record = redis.call('HGET', tasks, id)
    if not record then return nil end
    local dueAt, attempts, returns, lane, json = record:match('^(%d+) (%d+) (%d+) (%S+) (.*)$')
    return { due = dueAt, attempts = attempts, returns = tonumber(returns), lane = lane, json = json }
  end
  local function write(id, task)
    local head = task.due .. ' ' .. task.attempts .. ' ' .. whole(task.returns) .. ' ' .. task.lane
    redis.call('HSET', tasks, id, head .. ' ' .. task.json)
  end
  local function wakeAll() redis.call('PUBLISH', base .. 'wake', '') end

  -- A lane that had no due task gets its turn after all others.
  local function makeReady(id, task)
    local lane = task.returns >= ${MAX_RETURNS / 2} and '${SUSPECTS}' or task.lane
    redis.call('ZADD', base .. 'lane:' .. lane, task.due, id)
    if not redis.call('ZSCORE', ready, lane) then redis.call('ZADD', ready, redis.call('INCR', base .. 'turns'), lane) end
  end
  -- Stores when the task is due. Wakes the waiting processes if it is the next one.
  local function enqueue(id, task)
    if tonumber(task.due) <= now then
      makeReady(id, task)
      return wakeAll()
    end
    redis.call('ZADD', due, task.due, id)
    if redis.call('ZRANK', due, id) == 0 then wakeAll() end
  end
  -- The task waits for this process first. If the lane has waiting tasks, the order within it counts more.
  local function preferOrEnqueue(id, task, process, waitMs)
    if process == '' or tonumber(task.due) > now or redis.call('EXISTS', base .. 'lane:' .. task.lane) == 1 then
      return enqueue(id, task)
    end
    local own, until_ = base .. 'own:' .. process, whole(now + waitMs)
    redis.call('ZADD', due, until_, id)
    redis.call('ZADD', own, until_, id)
    redis.call('PEXPIRE', own, ${OWN_EXPIRES_MS})
    redis.call('PUBLISH', base .. 'wake', process)
  end
  local function park(id, task, why)
    redis.call('HSET', base .. 'parked', id, task.attempts .. ' ' .. whole(now) .. ' ' .. task.lane .. ' ' .. task.json)
    redis.call('HSET', base .. 'parked:why', id, why)
    redis.call('ZADD', base .. 'parked:order', now, id)
    redis.call('HDEL', tasks, id)
  end
  local function endClaim(id)
    redis.call('ZREM', taken, id)
    redis.call('HDEL', holders, id)
  end

  -- All claims of one run of a script have the same number.
  local claim, claimed = nil, {}
  local function hold(id, task, ttl)
    claim = claim or redis.call('INCR', base .. 'claims')
    redis.call('ZADD', taken, now + ttl, id)
    redis.call('HSET', holders, id, claim)
    for _, field in ipairs({ id, task.due, task.attempts, task.lane, task.json }) do claimed[#claimed + 1] = field end
  end
`;
