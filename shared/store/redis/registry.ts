/**
 * The index over all mailboxes in Redis: ids, addresses and statuses in order, the states, and the changes in the order they happened, so
 * that "what is wanted" is read once and then only as far as it changed. The mailboxes themselves lie elsewhere (each with its own
 * keys), so a change is first noted in `touched`, then written, then indexed here; what a crash leaves noted is indexed by
 * whoever looks next (`mend` in redis-mailboxes.ts).
 */
import { type RedisConnection, redisScript } from "../redis-client.ts";
import type { RedisKeys } from "./keys.ts";
import { LUA_CLOCK } from "./ledger.ts";
import { listOf, numberOf, textOrNull, textsOf } from "../redis-reply.ts";

/** A change that was noted and not indexed for this long was cut short by a crash. */
const CUT_SHORT_MS = 30_000;
/** How long a removal is remembered, for nodes that read the changes only now and then. */
const REMOVED_KEPT_MS = 24 * 60 * 60 * 1000;

const TOUCH = redisScript(LUA_CLOCK, "return redis.call('ZADD', base .. 'touched', now, ARGV[1])");

/**
 * `registry` maps an id to "stamp revision paused address"; revision 0 is a removed one. A newer stamp always wins. The state given is
 * that of a new mailbox, or with `afresh` takes the place of the one before.
 */
const INDEX = redisScript(
  LUA_CLOCK,
  `
  local id, stamp, revision, paused, address, status, state, afresh = unpack(ARGV)
  redis.call('ZREM', base .. 'touched', id)
  local old = redis.call('HGET', base .. 'registry', id)
  local oldStamp, oldRevision, oldPaused, oldAddress = '0', '0', '0', ''
  if old then oldStamp, oldRevision, oldPaused, oldAddress = old:match('^(%d+) (%d+) (%d) (.*)$') end
  if tonumber(oldStamp) >= tonumber(stamp) then return 0 end
  local lives = revision ~= '0'
  if oldAddress ~= address then redis.call('ZREM', base .. 'addresses', oldAddress .. '\\0' .. id) end
  if not lives or oldRevision == '0' or afresh == '1' then
    local known = redis.call('HGET', base .. 'states', id)
    if known then redis.call('ZREM', base .. 'status:' .. known:match('^[%l_]+'), id) end
    redis.call('HDEL', base .. 'states', id)
  end
  if lives then
    redis.call('ZADD', base .. 'ids', 0, id)
    redis.call('ZADD', base .. 'addresses', 0, address .. '\\0' .. id)
    redis.call('ZREM', base .. 'removed', id)
    if redis.call('HSETNX', base .. 'states', id, status .. ' ' .. state) == 1 then
      redis.call('ZADD', base .. 'status:' .. status, 0, id)
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

/** Two commands, and two more for each mailbox whose status changed: most only say that they still hear. */
const OBSERVE = redisScript(
  `
  local base = KEYS[1]
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
      fresh[#fresh + 1] = id
      fresh[#fresh + 1] = status .. ' ' .. state
    end
  end
  if #fresh > 0 then redis.call('HSET', base .. 'states', unpack(fresh)) end
  return 1`,
);

const LOOK = redisScript(
  LUA_CLOCK,
  `
  local cut = redis.call('ZRANGEBYSCORE', base .. 'touched', '-inf', now - ${CUT_SHORT_MS}, 'LIMIT', 0, 100)
  local function number(key) return redis.call('GET', base .. key) or '0' end
  return { redis.call('GET', base .. 'era') or '', number('version'), number('floor'), cut }`,
);

const FORGET_REMOVED = redisScript(
  LUA_CLOCK,
  `
  local removed = redis.call('ZSCORE', base .. 'removed', ARGV[1])
  if not removed or tonumber(removed) > now - ${REMOVED_KEPT_MS} then return 0 end
  local version = redis.call('ZSCORE', base .. 'changes', ARGV[1]) or '0'
  if tonumber(version) > (tonumber(redis.call('GET', base .. 'floor')) or 0) then redis.call('SET', base .. 'floor', version) end
  redis.call('ZREM', base .. 'changes', ARGV[1])
  redis.call('ZREM', base .. 'removed', ARGV[1])
  redis.call('HDEL', base .. 'registry', ARGV[1])
  return 1`,
);

/** `stamp` grows with every change of one mailbox; `revision` 0 says that it was removed. */
export type Registration = {
  id: string;
  stamp: string;
  revision: number;
  paused: boolean;
  address: string;
  status: string;
  state: string;
  /** The state takes the place of the one before. */
  afresh: boolean;
};

/** `era` is made anew when Redis was emptied. Of changes up to `floor`, removals are forgotten. `cut` were cut short. */
export type Look = { era: string; version: number; floor: number; cut: string[] };

/** An entry of the index. A revision of 0 says that the mailbox was removed. */
export type Registered = { id: string; version: number; revision: number; paused: boolean };

export function redisRegistry(redis: RedisConnection, { all }: RedisKeys) {
  return {
    async touch(id: string): Promise<void> {
      await redis.run(TOUCH, all, [id]);
    },
    async index({ id, stamp, revision, paused, address, status, state, afresh }: Registration): Promise<void> {
      const args = [id, stamp, revision, Number(paused), address, status, state, Number(afresh)];
      await redis.run(INDEX, all, args);
    },
    async observe(states: { id: string; revision: number; status: string; state: string }[]): Promise<void> {
      for (let from = 0; from < states.length; from += OBSERVED) {
        const slice = states.slice(from, from + OBSERVED);
        await redis.run(
          OBSERVE,
          all,
          slice.flatMap(({ id, revision, status, state }) => [id, revision, status, state]),
        );
      }
    },
    async states(ids: string[]): Promise<(string | null)[]> {
      if (ids.length === 0) return [];
      const found = listOf(await redis.send("hmget", [`${all}states`, ...ids])).map(textOrNull);
      return found.map((entry) => entry && entry.slice(entry.indexOf(" ") + 1));
    },
    /** Up to `limit` members of an index after a mark. */
    async members(index: string, range: { from: string; to: string; limit: number }): Promise<string[]> {
      return textsOf(await redis.send("zrangebylex", [all + index, range.from, range.to, "limit", 0, range.limit]));
    },
    async count(index: string, from = "-", to = "+"): Promise<number> {
      return numberOf(await redis.send("zlexcount", [all + index, from, to]));
    },
    async look(): Promise<Look> {
      const [era, version, floor, cut] = listOf(await redis.run(LOOK, all, []));
      return { era: textOrNull(era) ?? "", version: numberOf(version), floor: numberOf(floor), cut: textsOf(cut) };
    },
    /** Makes this the era unless there is one. Returns the one there is. */
    async beginEra(era: string): Promise<string> {
      await redis.send("set", [`${all}era`, era, "nx"]);
      return textOrNull(await redis.send("get", [`${all}era`])) ?? era;
    },
    /** The next changes after a version, in their order, at most a thousand. */
    async changes(after: number): Promise<Registered[]> {
      const args = [`${all}changes`, `(${after}`, "+inf", "withscores", "limit", 0, SLICE];
      const found = listOf(await redis.send("zrangebyscore", args))
        .flat()
        .map(String);
      const ids = found.filter((_, n) => n % 2 === 0);
      if (ids.length === 0) return [];
      const entries = listOf(await redis.send("hmget", [`${all}registry`, ...ids])).map(textOrNull);
      return ids.map((id, n) => {
        const [, revision, paused] = entries[n]?.split(" ") ?? [];
        return { id, version: Number(found[2 * n + 1]), revision: Number(revision ?? 0), paused: paused === "1" };
      });
    },
    /** Removed mailboxes, those removed first in front, at most a thousand from a rank on. */
    async removed(rank: number): Promise<string[]> {
      return textsOf(await redis.send("zrange", [`${all}removed`, rank, rank + SLICE - 1]));
    },
    /** Drops the memory of a removal when it is old enough. Returns whether it was. */
    async forgetRemoved(id: string): Promise<boolean> {
      return numberOf(await redis.run(FORGET_REMOVED, all, [id])) === 1;
    },
  };
}

export type RedisRegistry = ReturnType<typeof redisRegistry>;

const SLICE = 1_000;
/** States in one script; Lua's stack bounds what `unpack` may give. */
const OBSERVED = 500;
