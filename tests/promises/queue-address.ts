/** Where a queue of a test is, in words that a process of its own can be given. */
import { sqliteQueue } from "../../shared/queue/sqlite/queue.ts";
import type { TaskFailure } from "../../shared/queue/queue.ts";
import { openDatabase } from "../../shared/store/sqlite/database.ts";
import { backoffs } from "../../shared/time.ts";
import { isStoreAway } from "./node-faults.ts";
import type { OpenQueue } from "./queues.ts";
import { openFailover } from "./failover-rig.ts";
import { openRabbit, optionsFor, type QueueType } from "./rabbit-rig.ts";
import { openRedisQueue } from "./redis-queue-rig.ts";

/** `path`: SQLite in this file. `redisUrl` alone: Redis. `rabbitUrl`: RabbitMQ, with `redisUrl` as its stand-in if both are given. */
export type QueueAddress =
  | { path: string }
  | { redisUrl: string; prefix: string }
  | { rabbitUrl: string; name: string; type: QueueType }
  | { rabbitUrl: string; name: string; type: QueueType; redisUrl: string; prefix: string };

/** The name by which tasks may prefer this process, and the processes that the tasks of mailboxes prefer. */
export type Preferring = { own?: string; prefers?: Record<string, string> };

/** Every wait between tries is a hundredth of the production one; in Redis what a dead process held is free after two seconds. */
export function openQueueAt(address: QueueAddress, { own, prefers }: Preferring = {}): Promise<OpenQueue> {
  const preference = prefers && { preference: { preferredFor: (mailbox: string) => prefers[mailbox] } };
  if ("path" in address) return openSqlite(address.path);
  if (!("rabbitUrl" in address)) {
    const more = { claimMs: 2_000, ...preference, ...(own !== undefined && { own }) };
    return openRedisQueue(address.redisUrl, address.prefix, more);
  }
  const { rabbitUrl, name, type } = address;
  if ("redisUrl" in address) return openFailover(address);
  return openRabbit({ ...optionsFor(rabbitUrl, name, type), ...preference }, undefined, own);
}

async function openSqlite(path: string): Promise<OpenQueue> {
  const database = openDatabase(path);
  const failures: TaskFailure[] = [];
  const onFailed = (failure: TaskFailure) => void failures.push(failure);
  const tasks = sqliteQueue({ database, backoff: backoffs(0.01), onFailed, isNodeFault: isStoreAway });
  return { tasks, failures, close: async () => database.close() };
}
