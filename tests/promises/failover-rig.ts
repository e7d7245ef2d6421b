/** Queues on a real RabbitMQ with a real Redis as its stand-in, for tests. */
import { failoverQueue, type FailoverQueue } from "../../shared/queue/failover.ts";
import { type OpenRabbit, openRabbit, optionsFor, type QueueType } from "./rabbit-rig.ts";
import { type OpenRedisQueue, openRedisQueue } from "./redis-queue-rig.ts";
import type { OpenQueue } from "./queues.ts";

export type FailoverAddress = { rabbitUrl: string; name: string; type: QueueType; redisUrl: string; prefix: string };
export type OpenFailover = OpenQueue & { tasks: FailoverQueue; broker: OpenRabbit; standIn: OpenRedisQueue };

/** Opens both; with `readyMs` 0 it does not wait for the broker. */
export async function openFailover(
  { rabbitUrl, name, type, redisUrl, prefix }: FailoverAddress,
  { readyMs = 20_000, confirmMs = 5_000 } = {},
): Promise<OpenFailover> {
  const standIn = await openRedisQueue(redisUrl, prefix, { claimMs: 2_000 });
  const broker = await openRabbit({ ...optionsFor(rabbitUrl, name, type), confirmMs }, readyMs);
  const tasks = failoverQueue({ broker: broker.tasks, standIn: standIn.tasks });
  return {
    tasks,
    broker,
    standIn,
    get failures() {
      return [...broker.failures, ...standIn.failures];
    },
    async close() {
      await broker.close();
      await standIn.close();
    },
  };
}
