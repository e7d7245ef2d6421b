/**
 * The index over all mailboxes in Redis: ids, addresses and statuses in order, the states, and the changes in the order
 * in which they happened. So a node reads the list of enabled mailboxes once and then only the changes. The mailboxes
 * themselves are stored elsewhere, each with its own keys. So a change is first recorded in `touched`, then written,
 * then indexed here. If a crash interrupts this, the next reader finishes it (`repairIndex` in mailboxes.ts).
 */
import type { RedisConnection } from "./connection/client.ts";
import { redisScript } from "./connection/script.ts";
import type { RedisKeys } from "./keys.ts";
import { listOf, numberOf, textOrNull, textsOf } from "./connection/reply.ts";
import { LUA_CLOCK } from "./lua.ts";
import { LUA_FORGET_MEASURED } from "./measured/measures.ts";
import { LUA_ARRIVALS } from "./measured/order.ts";

/** A change that was recorded but not indexed for this long was interrupted by a crash. */
const INTERRUPTED_AFTER_MS = 30_000;
/** How long a removal is remembered, for nodes that read the changes only sometimes. */
const REMOVED_RETENTION_MS = 24 * 60 * 60 * 1000;

const NOTE_PENDING_CHANGE = redisScript(LUA_CLOCK, "return redis.call('ZADD', base .. 'touched', now, ARGV[1])");

/**
 * `registry` maps an id to "stamp revision paused address"; revision 0 means removed. A newer stamp always wins. The
 * given state is for a new mailbox; with `afresh` it replaces the stored state.
 */
const INDEX = redisScript(
  LUA_CLOCK,
  LUA_FORGET_MEASURED,
  LUA_ARRIVALS,
  `
  local id, stamp, revision, paused, address, status, state, afresh = unpack(ARGV)
  redis.call('ZREM', base .. 'touched', id)
  local old = redis.call('HGET', base .. 'registry', id)
  local oldStamp, oldRevision, oldPaused, oldAddress = '0', '0', '0', ''
  if old then oldStamp, oldRevision, oldPaused, oldAddress = old:match('^(%d+) (%d+) (%d) (.*)$') end
  if tonumber(oldStamp) >= tonumber(stamp) then return 0 end
  local lives = revision ~= '0'
  if not lives or oldRevision == '0' then forgetMeasured(id) end
  if oldAddress ~= address then redis.call('ZREM', base .. 'addresses', oldAddress .. '\\0' .. id) end
  if not lives or oldRevision == '0' or afresh == '1' then
    local known = redis.call('HGET', base .. 'states', id)
    if known then redis.call('ZREM', base .. 'status:' .. known:match('^[%l_]+'), id) end
    moveArrival(id, known, false)
    redis.call('HDEL', base .. 'states', id)
  end
  if lives then
    redis.call('ZADD', base .. 'ids', 0, id)
    redis.call('ZADD', base .. 'addresses', 0, address .. '\\0' .. id)
    redis.call('ZREM', base .. 'removed', id)
    if redis.call('HSETNX', base .. 'states', id, status .. ' ' .. state) == 1 then
      redis.call('ZADD', base .. 'status:' .. status, 0, id)
      moveArrival(id, false, state)
    end
  else
    redis.call('ZREM', base .. 'ids', id)
    redis.call('ZADD', base .. 'removed', now, id)
  end
  redis.call('HSET', base .. 'registry', id, stamp .. ' ' .. revision .. ' ' .. paused .. ' ' .. address)
  local version = math.max((tonumber(redis.call('GET', base .. 'version')) or 0) + 1, now)
  redis.call('SET', base .. 'version', version)
  redis.call('ZADD', base .. 'changes', version, id)
  return 1`,
);

/** Two commands, and two more for each change of a status or a last message. Most states only update `lastVerifiedAt`. */
const SAVE_STATES = redisScript(
  "local base = KEYS[1]",
  LUA_ARRIVALS,
  `
  local ids, fresh = {}, {}
  for i = 1, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
  local states = redis.call('HMGET', base .. 'states', unpack(ids))
  local registered = redis.call('HMGET', base .. 'registry', unpack(ids))
  for n, id in ipairs(ids) do
    local revision, status, state = ARGV[4 * n - 2], ARGV[4 * n - 1], ARGV[4 * n]
    local known = states[n]
    if known and registered[n] and registered[n]:match('^%d+ (%d+)') == revision then
      local before = known:match('^[%l_]+')
      if before ~= status then
        redis.call('ZREM', base .. 'status:' .. before, id)
        redis.call('ZADD', base .. 'status:' .. status, 0, id)
      end
      moveArrival(id, known, state)
      fresh[#fresh + 1] = id
      fresh[#fresh + 1] = status .. ' ' .. state
    end
  end
  if #fresh > 0 then redis.call('HSET', base .. 'states', unpack(fresh)) end
  return 1`,
);

const READ_VERSION = redisScript(
  LUA_CLOCK,
  `
  local cut = redis.call('ZRANGEBYSCORE', base .. 'touched', '-inf', now - ${INTERRUPTED_AFTER_MS}, 'LIMIT', 0, 100)
  local function number(key) return redis.call('GET', base .. key) or '0' end
  return { redis.call('GET', base .. 'era') or '', number('version'), number('floor'), cut }`,
);

const PRUNE_REMOVED = redisScript(
  LUA_CLOCK,
  `
  local removed = redis.call('ZSCORE', base .. 'removed', ARGV[1])
  if not removed or tonumber(removed) > now - ${REMOVED_RETENTION_MS} then return 0 end
  local version = redis.call('ZSCORE', base .. 'changes', ARGV[1]) or '0'
  if tonumber(version) > (tonumber(redis.call('GET', base .. 'floor')) or 0) then redis.call('SET', base .. 'floor', version) end
  redis.call('ZREM', base .. 'changes', ARGV[1])
  redis.call('ZREM', base .. 'removed', ARGV[1])
  redis.call('HDEL', base .. 'registry', ARGV[1])
  return 1`,
);

/** `stamp` grows with every change of one mailbox. `revision` 0 means that the mailbox was removed. */
export type Registration = {
  id: string;
  stamp: string;
  revision: number;
  paused: boolean;
  address: string;
  status: string;
  state: string;
  /** The given state replaces the stored one. */
  afresh: boolean;
};

/**
 * `era` is new when Redis was emptied. Removals among the changes up to `floor` are forgotten. `interrupted` are the
 * changes that a crash interrupted.
 */
export type RegistryVersion = { era: string; version: number; floor: number; interrupted: string[] };

/** An entry of the index. Revision 0 means that the mailbox was removed. */
export type RegistryChange = { id: string; version: number; revision: number; paused: boolean };

export function redisRegistry(redis: RedisConnection, { globalPrefix }: RedisKeys) {
  return {
    async notePendingChange(id: string): Promise<void> {
      await redis.run(NOTE_PENDING_CHANGE, globalPrefix, [id]);
    },
    async index({ id, stamp, revision, paused, address, status, state, afresh }: Registration): Promise<void> {
      const args = [id, stamp, revision, Number(paused), address, status, state, Number(afresh)];
      await redis.run(INDEX, globalPrefix, args);
    },
    async saveStates(states: { id: string; revision: number; status: string; state: string }[]): Promise<void> {
      for (let from = 0; from < states.length; from += STATES_PER_SCRIPT) {
        const slice = states.slice(from, from + STATES_PER_SCRIPT);
        await redis.run(
          SAVE_STATES,
          globalPrefix,
          slice.flatMap(({ id, revision, status, state }) => [id, revision, status, state]),
        );
      }
    },
    async states(ids: string[]): Promise<(string | null)[]> {
      if (ids.length === 0) return [];
      const found = listOf(await redis.send("hmget", [`${globalPrefix}states`, ...ids])).map(textOrNull);
      return found.map((entry) => entry && entry.slice(entry.indexOf(" ") + 1));
    },
    /** Up to `limit` members of an index after a given member. */
    async listMembers(index: string, range: { from: string; to: string; limit: number }): Promise<string[]> {
      return textsOf(
        await redis.send("zrangebylex", [globalPrefix + index, range.from, range.to, "limit", 0, range.limit]),
      );
    },
    async count(index: string, from = "-", to = "+"): Promise<number> {
      return numberOf(await redis.send("zlexcount", [globalPrefix + index, from, to]));
    },
    async readVersion(): Promise<RegistryVersion> {
      const [era, version, floor, cut] = listOf(await redis.run(READ_VERSION, globalPrefix, []));
      return {
        era: textOrNull(era) ?? "",
        version: numberOf(version),
        floor: numberOf(floor),
        interrupted: textsOf(cut),
      };
    },
    /** Sets the era unless there is one. Returns the era that is set. */
    async beginEra(era: string): Promise<string> {
      await redis.send("set", [`${globalPrefix}era`, era, "nx"]);
      return textOrNull(await redis.send("get", [`${globalPrefix}era`])) ?? era;
    },
    /** The next changes after a version, in their order, at most a thousand. */
    async listChanges(after: number): Promise<RegistryChange[]> {
      const args = [`${globalPrefix}changes`, `(${after}`, "+inf", "withscores", "limit", 0, BATCH_SIZE];
      const found = listOf(await redis.send("zrangebyscore", args))
        .flat()
        .map(String);
      const ids = found.filter((_, n) => n % 2 === 0);
      if (ids.length === 0) return [];
      const entries = listOf(await redis.send("hmget", [`${globalPrefix}registry`, ...ids])).map(textOrNull);
      return ids.map((id, n) => {
        const [, revision, paused] = entries[n]?.split(" ") ?? [];
        return { id, version: Number(found[2 * n + 1]), revision: Number(revision ?? 0), paused: paused === "1" };
      });
    },
    /** Removed mailboxes from a rank on, the earliest removals first, at most a thousand. */
    async listRemoved(rank: number): Promise<string[]> {
      return textsOf(await redis.send("zrange", [`${globalPrefix}removed`, rank, rank + BATCH_SIZE - 1]));
    },
    /** Forgets a removal when it is old enough. Returns whether it was. */
    async pruneRemoved(id: string): Promise<boolean> {
      return numberOf(await redis.run(PRUNE_REMOVED, globalPrefix, [id])) === 1;
    },
  };
}

export type RedisRegistry = ReturnType<typeof redisRegistry>;

const BATCH_SIZE = 1_000;
/** States in one script. Lua's stack limits what `unpack` may return. */
const STATES_PER_SCRIPT = 500;
