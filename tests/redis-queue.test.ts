/** The queue in Redis: held to the promises of every queue, and to those that a server and several processes put to the test. */
import { randomUUID } from "node:crypto";
import { after, before } from "node:test";
import { placeAt, queuePromises } from "./promises/queues.ts";
import { preferencePromises } from "./promises/queues-preference.ts";
import { redisQueueFaults } from "./promises/redis-queue-faults.ts";
import { type Redis, startRedis } from "./servers/redis.ts";
import { type RedisGroup, startRedisCluster } from "./servers/redis-groups.ts";

let redis: Redis;
let cluster: RedisGroup;
before(async () => {
  redis = await startRedis({ settings: { appendfsync: "everysec" } });
  cluster = await startRedisCluster();
});
after(async () => {
  await redis.remove();
  await cluster.remove();
});

queuePromises("Redis queue", () => placeAt({ redisUrl: redis.url, prefix: randomUUID() }, true));
preferencePromises("Redis queue", () => ({ redisUrl: redis.url, prefix: randomUUID() }));
// A cluster divides the keys: that is the same on every runtime.
if ("bun" in process.versions) {
  queuePromises("Redis queue in a cluster", () => placeAt({ redisUrl: cluster.url, prefix: randomUUID() }));
  preferencePromises("Redis queue in a cluster", () => ({ redisUrl: cluster.url, prefix: randomUUID() }));
}
redisQueueFaults(() => redis);
