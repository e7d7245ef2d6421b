/** The parked tasks in Redis, kept until a person decides. */
import { Problem } from "../../contract/problem.ts";
import type { RedisConnection } from "../../store/redis/connection/client.ts";
import { listOf, numberOf, textOrNull, textsOf } from "../../store/redis/connection/reply.ts";
import type { ParkedTask, ParkedTasks } from "../queue.ts";
import { parseTask } from "../stored-task.ts";
import { DROP_PARKED, REPLAY_PARKED } from "./scripts.ts";

/** How many tasks are read or moved in one step. A task with the references of a thousand messages is large. */
const BATCH_SIZE = 100;

/** All keys of the queue begin with `prefix`. */
export function redisParkedTasks(redis: RedisConnection, prefix: string): ParkedTasks {
  const listIds = async (limit: number) => textsOf(await redis.send("zrange", [`${prefix}parked:order`, 0, limit - 1]));
  const runInBatches = async (script: typeof DROP_PARKED, ids: readonly string[]) => {
    let count = 0;
    for (const batch of batchesOf(ids)) count += numberOf(await redis.run(script, prefix, batch));
    return count;
  };
  return {
    async parked(limit, mailboxPrefix = "") {
      const found: ParkedTask[] = [];
      // Without a prefix all of the first ids are wanted.
      for (const ids of batchesOf(await listIds(mailboxPrefix === "" ? limit : 0))) {
        if (found.length >= limit) break;
        const records = listOf(await redis.send("hmget", [`${prefix}parked`, ...ids])).map(textOrNull);
        const reasons = listOf(await redis.send("hmget", [`${prefix}parked:why`, ...ids])).map(textOrNull);
        for (const [n, id] of ids.entries()) {
          const record = records[n];
          if (record && laneOf(record).startsWith(mailboxPrefix))
            found.push(toParkedTask(id, record, reasons[n] ?? null));
        }
      }
      return found.slice(0, limit);
    },
    replayParked: async (ids) => runInBatches(REPLAY_PARKED, ids ?? (await listIds(0))),
    dropParked: (ids) => runInBatches(DROP_PARKED, ids),
  };
}

/** The mailbox of a task, also of one that this version cannot read. */
function laneOf(record: string): string {
  return record.split(" ", 3)[2] ?? "";
}

function toParkedTask(id: string, record: string, reason: string | null): ParkedTask {
  const [, attempts, parkedAt, json = ""] = /^(\d+) (\d+) \S+ (.*)$/s.exec(record) ?? [];
  const task = parseTask(json);
  return {
    id,
    task: task instanceof Problem ? null : task,
    tries: Number(attempts),
    reason,
    parkedAt: new Date(Number(parkedAt)).toISOString(),
  };
}

function batchesOf(ids: readonly string[]): string[][] {
  const count = Math.ceil(ids.length / BATCH_SIZE);
  return Array.from({ length: count }, (_, n) => ids.slice(n * BATCH_SIZE, (n + 1) * BATCH_SIZE));
}
