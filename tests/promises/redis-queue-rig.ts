/** Queues in a real Redis for tests, each under a prefix of its own, and consumers in processes that can be killed. */
import { isStoreAway } from "./node-faults.ts";
import { randomUUID } from "node:crypto";
import type { Problem } from "../../shared/contract/problem.ts";
import type { TaskFailure } from "../../shared/queue/queue.ts";
import { type RedisQueue, redisQueue, type RedisQueueDeps } from "../../shared/queue/redis/queue.ts";
import { type RedisConnection, redisConnection } from "../../shared/store/redis/connection/client.ts";
import { redisKeys } from "../../shared/store/redis/keys.ts";
import { backoffs } from "../../shared/time.ts";

export type OpenRedisQueue = {
  tasks: RedisQueue;
  redis: RedisConnection;
  prefix: string;
  failures: TaskFailure[];
  troubles: (Problem | null)[];
  close(): Promise<void>;
};

/** The name by which tasks may prefer the process. */
export type Own = { own?: string };

/** Opens a queue with a connection of its own. A consumer that a failed test left running ends with it. */
export async function openRedisQueue(
  url: string,
  prefix: string = randomUUID(),
  { own, ...more }: Partial<Pick<RedisQueueDeps, "claimMs" | "maxAttempts" | "graceMs" | "preference">> & Own = {},
): Promise<OpenRedisQueue> {
  const failures: TaskFailure[] = [];
  const troubles: (Problem | null)[] = [];
  const redis = await redisConnection(url);
  const queue = await redisQueue({
    redis,
    keys: redisKeys(prefix),
    claimMs: 5_000,
    backoff: backoffs(0.01),
    isNodeFault: isStoreAway,
    onFailed: (failure) => void failures.push(failure),
    onTrouble: (why) => void troubles.push(why),
    ...more,
  });
  const closing = new AbortController();
  const runs = new Set<Promise<void>>();
  const run: RedisQueue["run"] = (perform, work, signal) => {
    const running = queue.run(
      perform,
      { ...work, ...(own !== undefined && { own }) },
      AbortSignal.any([signal, closing.signal]),
    );
    runs.add(running);
    return running;
  };
  const close = async () => {
    closing.abort();
    await Promise.allSettled(runs);
    await redis.close();
  };
  return { tasks: { ...queue, run }, redis, prefix, failures, troubles, close };
}
