/**
 * The scripts of the queue in Redis. Each is one atomic step. All keys share the hash tag of KEYS[1]:
 *
 * - `tasks`: a hash, id to "due attempts returns lane json". Ids ascend in the order of sending.
 * - `due`: a sorted set of the tasks that are not due yet, by due time (ms since 1970).
 * - `lane:<lane>`: a sorted set of the lane's tasks that are due, by due time.
 * - `own:<process>`: a sorted set of the tasks that prefer a process, by the time until which they wait for it. Until then
 *   `due` has them too, with this time. A process that does not know of preferences sees a task that is due then.
 * - `ready`: a sorted set of the lanes with tasks that are due, by the order of their turns.
 * - `taken`: a sorted set of the claimed tasks, by the end of the claim; `holders`: a hash, id to the number of the claim.
 * - `parked`: a hash, id to "attempts time lane json"; `parked:order`: their ids by that time; `parked:why`: their reasons.
 *
 * `attempts` counts the tries. `returns` counts how often the task came back because its claim expired: its process died or hung.
 */
import { redisScript } from "../../store/redis/connection/script.ts";
import { LUA_CLOCK } from "../../store/redis/lua.ts";
import { LUA_TASKS, MAX_RETURNS, SUSPECTS } from "./lua.ts";

/** How many tasks one script moves at most, so that a script does not block the server for long. */
const MAX_DUE_MOVED = 500;
const MAX_RETURNED = 100;
const MAX_OWN = 500;

/** The reason of a task that was parked because of its returns. */
export const POISON_REASON = `Claimed ${MAX_RETURNS} times without an outcome: the task may have killed the processes that claimed it`;

/**
 * ARGV: due time, lane, JSON, the process that the task prefers (or empty), and how long it waits for it. Returns the
 * id.
 */
export const ADD = redisScript(
  LUA_CLOCK,
  LUA_TASKS,
  `
  local id = string.format('%015.0f', redis.call('INCR', base .. 'sequence'))
  local dueAt = whole(math.max(tonumber(ARGV[1]), now))
  local task = { due = dueAt, attempts = '0', returns = 0, lane = ARGV[2], json = ARGV[3] }
  write(id, task)
  preferOrEnqueue(id, task, ARGV[4], ARGV[5])
  return id`,
);

/** Wakes all processes if a task is due that nobody has taken. */
export const WAKE_FOR_DUE = redisScript(
  LUA_CLOCK,
  LUA_TASKS,
  `
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
  if first and tonumber(first) <= now then wakeAll() end`,
);

/**
 * ARGV: how many tasks are wanted, how many of one lane may run in this process, the duration of the claim, this
 * process's clock, the name by which tasks may prefer it (or empty), and the lanes that run in this process now, each
 * with the number of its tasks. Returns { number of the claim, claimed tasks (id, due time, attempts, lane, JSON), tasks
 * that were parked (attempts, lane, JSON), ms until there may be a task again, or -1 }. A delayed task is due when both
 * clocks have passed its time, Redis's and the process's: the process may compare the time with its own clock.
 */
export const CLAIM = redisScript(
  LUA_CLOCK,
  LUA_TASKS,
  `
  local wanted, perLane, ttl, clockNow = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), math.min(now, tonumber(ARGV[4]))
  local here, lanesHere, parked = {}, 0, {}
  for n = 6, #ARGV, 2 do
    here[ARGV[n]] = tonumber(ARGV[n + 1])
    lanesHere = lanesHere + 1
  end

  local ended = redis.call('ZRANGEBYSCORE', taken, '-inf', now, 'LIMIT', 0, ${MAX_RETURNED})
  for _, id in ipairs(ended) do
    endClaim(id)
    local task = taskOf(id)
    if task then
      task.returns = task.returns + 1
      if task.returns >= ${MAX_RETURNS} then
        park(id, task, '${POISON_REASON}')
        for _, field in ipairs({ task.attempts, task.lane, task.json }) do parked[#parked + 1] = field end
      else
        write(id, task)
        makeReady(id, task)
      end
    end
  end

  local moved = redis.call('ZRANGEBYSCORE', due, '-inf', clockNow, 'LIMIT', 0, ${MAX_DUE_MOVED})
  for _, id in ipairs(moved) do
    redis.call('ZREM', due, id)
    local task = taskOf(id)
    if task then makeReady(id, task) end
  end

  local function isFull(lane)
    if lane ~= '${SUSPECTS}' then return (here[lane] or 0) >= perLane end
    local suspect = redis.call('GET', base .. 'suspect')
    return suspect and redis.call('ZSCORE', taken, suspect)
  end
  local function take(id, task)
    here[task.lane] = (here[task.lane] or 0) + 1
    hold(id, task, ttl)
  end

  -- Tasks that prefer this process. It leaves half of its places to tasks that wait for a turn. What it has no room for
  -- waits for a turn too.
  local own, mine = base .. 'own:' .. ARGV[5], {}
  if ARGV[5] ~= '' then
    redis.call('ZREMRANGEBYSCORE', own, '-inf', now)
    mine = redis.call('ZRANGE', own, 0, ${MAX_OWN - 1}, 'WITHSCORES')
  end
  local places = redis.call('EXISTS', ready) == 1 and math.floor(wanted / 2) or wanted
  local left = false
  for n = 1, #mine, 2 do
    local id = mine[n]
    redis.call('ZREM', own, id)
    -- With another time it came back for another reason.
    local task = redis.call('ZSCORE', due, id) == mine[n + 1] and taskOf(id)
    if task then
      redis.call('ZREM', due, id)
      local hasRoom = places > 0 and (here[task.lane] or 0) < perLane
      if hasRoom and redis.call('EXISTS', base .. 'lane:' .. task.lane) == 0 then
        places = places - 1
        take(id, task)
      else
        makeReady(id, task)
        left = true
      end
    end
  end
  if left then wakeAll() end

  local function takeTurn(lane)
    local id = redis.call('ZRANGE', base .. 'lane:' .. lane, 0, 0)[1]
    if id then redis.call('ZREM', base .. 'lane:' .. lane, id) end
    local left = redis.call('EXISTS', base .. 'lane:' .. lane) == 1
    if left then redis.call('ZADD', ready, redis.call('INCR', base .. 'turns'), lane) else redis.call('ZREM', ready, lane) end
    local task = id and taskOf(id)
    if not task then return end
    if lane == '${SUSPECTS}' then redis.call('SET', base .. 'suspect', id) end
    take(id, task)
  end
  -- Each round gives every lane one turn. Only lanes with tasks in this process can be full, and the lane of the suspects.
  local count = #claimed / 5
  local progress = count < wanted
  while progress do
    progress = false
    for _, lane in ipairs(redis.call('ZRANGE', ready, 0, wanted + lanesHere)) do
      if count < wanted and not isFull(lane) then
        takeTurn(lane)
        count = #claimed / 5
        progress = count < wanted
      end
    end
  end

  local wait = -1
  local function noLaterThan(ms) if wait < 0 or ms < wait then wait = math.max(0, ms) end end
  if #ended == ${MAX_RETURNED} or #moved == ${MAX_DUE_MOVED} then noLaterThan(0) end
  local nextDue = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
  if nextDue then noLaterThan(nextDue - clockNow) end
  local nextEnd = redis.call('ZRANGE', taken, 0, 0, 'WITHSCORES')[2]
  if nextEnd then noLaterThan(nextEnd - now + 1) end
  return { claim or 0, claimed, parked, whole(wait) }`,
);

/**
 * ARGV: how many tasks are wanted, the duration of the claim. Claims tasks that are not due, the next due first.
 * Returns the same as CLAIM.
 */
export const CLAIM_DELAYED = redisScript(
  LUA_CLOCK,
  LUA_TASKS,
  `
  for _, id in ipairs(redis.call('ZRANGE', due, 0, ARGV[1] - 1)) do
    redis.call('ZREM', due, id)
    local task = taskOf(id)
    if task then hold(id, task, ARGV[2]) end
  end
  return { claim or 0, claimed, {}, '-1' }`,
);

/**
 * ARGV: the duration, then ids, each with the number of its claim. Returns the places in this list, from 0, of the
 * claims that were lost.
 */
export const RENEW = redisScript(
  LUA_CLOCK,
  LUA_TASKS,
  `
  local lost = {}
  for n = 2, #ARGV, 2 do
    if redis.call('HGET', holders, ARGV[n]) == ARGV[n + 1] then redis.call('ZADD', taken, now + ARGV[1], ARGV[n])
    else lost[#lost + 1] = n / 2 - 1 end
  end
  return lost`,
);

const LUA_FINISH = `
  local id = ARGV[1]
  if redis.call('HGET', holders, id) ~= ARGV[2] then return 0 end
  endClaim(id)
`;

/** These four end a claim. ARGV: id, number of the claim. If the claim was lost, they change nothing and return 0. */
export const REMOVE = redisScript(LUA_CLOCK, LUA_TASKS, LUA_FINISH, "return redis.call('HDEL', tasks, id)");

export const RELEASE = redisScript(LUA_CLOCK, LUA_TASKS, LUA_FINISH, "enqueue(id, taskOf(id)) return 1");

/** More ARGV: due time, attempts, JSON (empty keeps the stored one). */
export const PUT_BACK = redisScript(
  LUA_CLOCK,
  LUA_TASKS,
  LUA_FINISH,
  `
  local task = taskOf(id)
  task.due, task.attempts, task.returns = ARGV[3], ARGV[4], 0
  if ARGV[5] ~= '' then task.json = ARGV[5] end
  write(id, task)
  enqueue(id, task)
  return 1`,
);

/** More ARGV: attempts, reason. */
export const PARK = redisScript(
  LUA_CLOCK,
  LUA_TASKS,
  LUA_FINISH,
  `
  local task = taskOf(id)
  task.attempts = ARGV[3]
  park(id, task, ARGV[4])
  return 1`,
);

/** ARGV: ids of parked tasks. Both return how many of them existed. */
const LUA_UNPARK = `
  local function unpark(id)
    local record = redis.call('HGET', base .. 'parked', id)
    redis.call('HDEL', base .. 'parked', id)
    redis.call('HDEL', base .. 'parked:why', id)
    redis.call('ZREM', base .. 'parked:order', id)
    return record
  end
  local count = 0
`;

export const DROP_PARKED = redisScript(
  LUA_CLOCK,
  LUA_UNPARK,
  "for _, id in ipairs(ARGV) do if unpark(id) then count = count + 1 end end return count",
);

export const REPLAY_PARKED = redisScript(
  LUA_CLOCK,
  LUA_TASKS,
  LUA_UNPARK,
  `
  for _, id in ipairs(ARGV) do
    local record = unpark(id)
    if record then
      local lane, json = record:match('^%d+ %d+ (%S+) (.*)$')
      local task = { due = whole(now), attempts = '0', returns = 0, lane = lane, json = json }
      write(id, task)
      enqueue(id, task)
      count = count + 1
    end
  end
  return count`,
);

/** Returns the number of all tasks, of delayed, claimed and parked ones. */
export const COUNT = redisScript(
  LUA_CLOCK,
  LUA_TASKS,
  `
  local delayed = redis.call('ZCOUNT', due, '(' .. whole(now), '+inf')
  return { redis.call('HLEN', tasks), delayed, redis.call('ZCARD', taken), redis.call('HLEN', base .. 'parked') }`,
);
