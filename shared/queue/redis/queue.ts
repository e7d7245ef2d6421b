/**
 * The queue in Redis. Tasks wait here if there is Redis and no RabbitMQ, and while RabbitMQ is away. Any number of
 * processes send to it and take from it. It is as durable as Redis itself.
 */
import type { Problem } from "../../contract/problem.ts";
import { withTimeout } from "../../time.ts";
import type { RedisConnection } from "../../store/redis/connection/client.ts";
import type { RedisKeys } from "../../store/redis/keys.ts";
import type { HandOver } from "../failover.ts";
import { MAX_ATTEMPTS, type TryTaskDeps } from "../perform.ts";
import type { PerformTask, TaskDepth, TaskQueue } from "../queue.ts";
import { recentWaits } from "../recent-waits.ts";
import { consume } from "./consumer.ts";
import { redisParkedTasks } from "./parked.ts";
import { redisTasks } from "./tasks.ts";

export type RedisQueueDeps = Pick<TryTaskDeps, "backoff" | "onFailed" | "isNodeFault"> & {
  redis: RedisConnection;
  keys: Pick<RedisKeys, "queuePrefix">;
  /** How long a process keeps its claims without renewing them, in milliseconds. */
  claimMs: number;
  /** Called once when no tasks can be taken, and with null once they can be again. Must not throw. */
  onTrouble: (why: Problem | null) => void;
  /** After this many tries a task that still fails is parked. */
  maxAttempts?: number;
  /** How long a shutdown waits for tasks in flight; 10 s by default. */
  graceMs?: number;
};

export interface RedisQueue extends TaskQueue {
  /**
   * With `handOver` this process performs tasks only while `handOver` is closed. While it is open, all tasks go there,
   * due or not.
   */
  run(perform: PerformTask, options: { concurrency: number; handOver?: HandOver }, signal: AbortSignal): Promise<void>;
  depth(): Promise<Required<Omit<TaskDepth, "consumers">>>;
}

const GRACE_MS = 10_000;
/** A little longer than the timeout of a Redis command, whose error says more. */
const SEND_TIMEOUT_MS = 7_000;

/**
 * Resolves once this process is subscribed to the messages about new tasks. `running` counts the tasks of all
 * processes. A process that dies keeps its tasks for `claimMs`; then others perform them. A task whose process died 20
 * times is parked.
 */
export async function redisQueue(deps: RedisQueueDeps): Promise<RedisQueue> {
  const { redis, claimMs, maxAttempts = MAX_ATTEMPTS, graceMs = GRACE_MS } = deps;
  const prefix = deps.keys.queuePrefix;
  const tasks = redisTasks({ redis, prefix, claimMs });
  const waits = recentWaits();
  const listeners = new Set<() => void>();
  await redis.subscribe(`${prefix}wake`, () => {
    for (const wake of listeners) wake();
  });
  const onWake = (wake: () => void) => {
    listeners.add(wake);
    return () => listeners.delete(wake);
  };
  return {
    async send(task, { notBefore } = {}, signal) {
      signal?.throwIfAborted();
      const added = tasks.add(task, notBefore?.getTime() ?? 0);
      await withTimeout(SEND_TIMEOUT_MS, "Sending a task to Redis", added, signal);
    },
    run(perform, { concurrency, handOver }, signal) {
      const consumerDeps = { ...deps, tasks, onWake, waits, maxAttempts, graceMs };
      return consume(consumerDeps, { perform, concurrency, handOver }, signal);
    },
    depth: async () => ({ ...(await tasks.count()), longestWaitSeconds: waits.longestSeconds() }),
    ...redisParkedTasks(redis, prefix),
  };
}
