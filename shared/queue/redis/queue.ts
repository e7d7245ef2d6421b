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
import { OWN_WAIT_MS, type Preference } from "../preference.ts";
import type { PerformTask, TaskDepth, TaskQueue } from "../queue.ts";
import { recentWaits } from "../recent-waits.ts";
import { consume } from "./consumer.ts";
import { redisParkedTasks } from "./parked.ts";
import { redisTasks } from "./tasks.ts";

export type RedisQueueDeps = Pick<TryTaskDeps, "backoff" | "onFailed" | "isNodeFault"> & {
  redis: RedisConnection;
  keys: Pick<RedisKeys, "queuePrefix">;
  /** Which process the tasks that are sent prefer. Without it, none. */
  preference?: Preference;
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
   * due or not. `own` is the name by which tasks may prefer this process.
   */
  run(
    perform: PerformTask,
    options: { concurrency: number; handOver?: HandOver; own?: string },
    signal: AbortSignal,
  ): Promise<void>;
  depth(): Promise<Required<Omit<TaskDepth, "consumers">>>;
}

const GRACE_MS = 10_000;
/** A little longer than the timeout of a Redis command, whose error says more. */
const SEND_TIMEOUT_MS = 7_000;
const WAKE_MARGIN_MS = 20;

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
  const listeners = new Set<(process: string) => void>();
  await redis.subscribe(`${prefix}wake`, (process) => {
    for (const heard of listeners) heard(process);
  });
  const onWake = (wake: () => void, own: string | undefined) => {
    const heard = (process: string) => {
      if (process === "" || process === own) wake();
    };
    listeners.add(heard);
    return () => listeners.delete(heard);
  };
  const wakeOthersLater = oneAtATime(() => tasks.wakeForDue());
  return {
    async send(task, { notBefore } = {}, signal) {
      signal?.throwIfAborted();
      const preferred = deps.preference?.preferredFor(task.mailbox);
      const added = tasks.add(task, notBefore?.getTime() ?? 0, preferred);
      await withTimeout(SEND_TIMEOUT_MS, "Sending a task to Redis", added, signal);
      if (preferred !== undefined) wakeOthersLater();
    },
    run(perform, { concurrency, handOver, own }, signal) {
      const consumerDeps = { ...deps, tasks, onWake, waits, maxAttempts, graceMs };
      return consume(consumerDeps, { perform, concurrency, handOver, own }, signal);
    },
    depth: async () => ({ ...(await tasks.count()), longestWaitSeconds: waits.longestSeconds() }),
    ...redisParkedTasks(redis, prefix),
  };
}

/**
 * Calls `wake` when a task has waited in vain for the process that it prefers. Tasks that are sent meanwhile share the
 * call. If it fails, the processes look by themselves.
 */
function oneAtATime(wake: () => Promise<void>): () => void {
  let isComing = false;
  return () => {
    if (isComing) return;
    isComing = true;
    const call = () => {
      isComing = false;
      wake().catch(() => undefined);
    };
    setTimeout(call, OWN_WAIT_MS + WAKE_MARGIN_MS).unref();
  };
}
