/**
 * The measured history in Redis: the states of all mailboxes in one hash, their latencies in another, the runs of nodes
 * in a third, and one hash for each period of counts.
 */
import { clock } from "../../../time.ts";
import { PERIOD_MS, periodOf } from "../../../telemetry/tallies.ts";
import { KEPT_MS, type Measures, type NodeRun, type Period } from "../../measured/measures.ts";
import {
  decodeEntries,
  encodeReport,
  encodeTick,
  ENTRY_CHARACTERS,
  rankOf,
  tickOf,
  TICKS_PER_DAY,
  UNNOTICED_MINUTES,
} from "../../measured/state-entries.ts";
import type { RedisConnection } from "../connection/client.ts";
import { redisScript } from "../connection/script.ts";
import { listOf, numberOf, recordOf, textOrNull } from "../connection/reply.ts";
import type { RedisKeys } from "../keys.ts";

/** As `addReport` of `state-entries.ts`. ARGV: the run, the tick a day ago, then mailbox and report in turn. */
const RECORD = redisScript(`
  local base, run, floor = KEYS[1], ARGV[1], ARGV[2]
  local LEFT, WIDTH = '${rankOf("nobody")}', ${ENTRY_CHARACTERS}
  local function merge(newest, report)
    local worst, last = newest:sub(7, 7), report:sub(8, 8)
    local since, minute = newest:sub(6, 6), report:sub(6, 6)
    local worse = worst > report:sub(7, 7) and worst or report:sub(7, 7)
    local had = newest:sub(8, 8)
    if had == LEFT and last ~= LEFT and tonumber(minute, 36) - tonumber(since, 36) > ${UNNOTICED_MINUTES} then worse = LEFT end
    if newest:sub(9) == run and had ~= LEFT and last ~= LEFT then minute = since end
    return report:sub(1, 5) .. minute .. worse .. last
  end
  for i = 3, #ARGV, 2 do
    local id, report = ARGV[i], ARGV[i + 1]
    local text = redis.call('HGET', base .. 'measured', id) or ''
    local newest, tick = text:sub(-WIDTH), report:sub(1, 5)
    local ignored = (report:sub(8, 8) == LEFT and newest:sub(9) ~= run) or newest:sub(1, 5) > tick
    if not ignored and redis.call('HEXISTS', base .. 'states', id) == 1 then
      if newest:sub(1, 5) == tick then
        text = text:sub(1, -WIDTH - 1)
        report = merge(newest, report)
      end
      while #text > WIDTH and text:sub(WIDTH + 1, WIDTH + 5) <= floor do text = text:sub(WIDTH + 1) end
      redis.call('HSET', base .. 'measured', id, text .. report .. run)
    end
  end
  return 1`);

/** ARGV: the run, what is stored of it, and the end of the oldest run that is kept. */
const RECORD_RUN = redisScript(`
  local runs = KEYS[1] .. 'runs'
  redis.call('HSET', runs, ARGV[1], ARGV[2])
  local all = redis.call('HGETALL', runs)
  for i = 1, #all, 2 do
    if tonumber(all[i + 1]:match('^%d+ (%d+)')) < tonumber(ARGV[3]) then redis.call('HDEL', runs, all[i]) end
  end
  return 1`);

/** ARGV: when the period is forgotten, how many numbers are added, then names and numbers. */
const COUNT = redisScript(`
  local adds = tonumber(ARGV[3])
  local period = KEYS[1] .. 'counts:' .. ARGV[1]
  for i = 4, #ARGV, 2 do
    if i < 4 + 2 * adds then redis.call('HINCRBY', period, ARGV[i], ARGV[i + 1])
    else redis.call('HSET', period, ARGV[i], ARGV[i + 1]) end
  end
  if #ARGV > 3 then redis.call('PEXPIREAT', period, ARGV[2]) end
  return 1`);

const SET_LATENCIES = redisScript(`
  for i = 1, #ARGV, 2 do
    if redis.call('HEXISTS', KEYS[1] .. 'states', ARGV[i]) == 1 then
      redis.call('HSET', KEYS[1] .. 'latencies', ARGV[i], ARGV[i + 1])
    end
  end
  return 1`);

/** Removes what is measured of a mailbox, and what is known of its connection, in a script over the keys that concern all mailboxes. */
export const LUA_FORGET_MEASURED = `
  local function forgetMeasured(id)
    redis.call('HDEL', base .. 'measured', id)
    redis.call('HDEL', base .. 'latencies', id)
    redis.call('HDEL', base .. 'connections', id)
  end
`;

const REPORTS_PER_SCRIPT = 500;

export function redisMeasures(redis: RedisConnection, { globalPrefix }: RedisKeys): Measures {
  return {
    async record(run, reports) {
      const floor = encodeTick(tickOf(run.until).tick - TICKS_PER_DAY);
      for (let from = 0; from < reports.length; from += REPORTS_PER_SCRIPT) {
        const slice = reports.slice(from, from + REPORTS_PER_SCRIPT);
        const args = slice.flatMap(({ mailbox, ...report }) => [mailbox, encodeReport(report)]);
        await redis.run(RECORD, globalPrefix, [run.id, floor, ...args]);
      }
      // Last, so that the run is known to be whole only with all that it reports.
      await redis.run(RECORD_RUN, globalPrefix, [run.id, `${run.from} ${run.until} ${run.node}`, run.until - KEPT_MS]);
    },
    async count({ at, add, set, latencies }) {
      const [adds, sets] = [Object.entries(add), Object.entries(set)];
      const numbers = [...adds, ...sets].flat();
      if (numbers.length > 0)
        await redis.run(COUNT, globalPrefix, [at, at + PERIOD_MS + KEPT_MS, adds.length, ...numbers]);
      const values = latencies.flatMap(({ mailbox, ms }) => [mailbox, Math.round(ms)]);
      if (values.length > 0) await redis.run(SET_LATENCIES, globalPrefix, values);
    },
    async readMailboxes(ids) {
      if (ids.length === 0) return [];
      const read = async (key: string) =>
        listOf(await redis.send("hmget", [globalPrefix + key, ...ids])).map(textOrNull);
      const [states, latencies] = await Promise.all([read("measured"), read("latencies")]);
      return ids.map((_, n) => ({
        states: decodeEntries(states[n] ?? ""),
        latencyMs: latencies[n] ? Number(latencies[n]) : null,
      }));
    },
    async listRuns() {
      const entries = recordOf(await redis.send("hgetall", [`${globalPrefix}runs`]));
      const runs = entries.map(([id, value]) => parseRun(id, value));
      return runs.filter(({ until }) => until >= clock.now() - KEPT_MS).toSorted((a, b) => a.from - b.from);
    },
    async readPeriods(since) {
      const first = periodOf(since + PERIOD_MS - 1);
      const times: number[] = [];
      for (let at = first; at <= clock.now(); at += PERIOD_MS) times.push(at);
      const found = await Promise.all(
        times.map(async (at): Promise<Period> => {
          const numbers = recordOf(await redis.send("hgetall", [`${globalPrefix}counts:${at}`]));
          return { at, values: new Map(numbers.map(([name, n]) => [name, numberOf(n)])) };
        }),
      );
      return found.filter(({ values }) => values.size > 0);
    },
  };
}

function parseRun(id: string, value: string): NodeRun {
  const [from, until, ...node] = value.split(" ");
  return { id, from: Number(from), until: Number(until), node: node.join(" ") };
}
