/** RabbitMQ with Redis as its stand-in: held to the promises of every queue, with the broker there and away, and to those of an outage. */
import { randomUUID } from "node:crypto";
import { after, before } from "node:test";
import { openFailover } from "./promises/failover-rig.ts";
import { outagePromises } from "./promises/outages.ts";
import { placeAt, type QueuePlace, queuePromises } from "./promises/queues.ts";
import { namer } from "./promises/rabbit-rig.ts";
import { type RabbitMq, startRabbitMq } from "./servers/rabbitmq.ts";
import { type Redis, startRedis } from "./servers/redis.ts";

let redis: Redis;
let rabbit: RabbitMq;
before(
  async () => {
    redis = await startRedis({ settings: { appendfsync: "everysec" } });
    rabbit = await startRabbitMq();
  },
  { timeout: 120_000 },
);
after(async () => {
  await rabbit.remove();
  await redis.remove();
});

const newName = namer();
const newAddress = (rabbitUrl: string) =>
  ({ rabbitUrl, name: newName("quorum"), type: "quorum", redisUrl: redis.url, prefix: randomUUID() }) as const;

queuePromises("RabbitMQ with Redis as its stand-in", () => placeAt(newAddress(rabbit.url)));

/** Nobody listens there. What is on the broker cannot be told, so what is in Redis is. */
function placeWithoutBroker(): QueuePlace {
  const address = newAddress("amqp://guest:guest@127.0.0.1:1");
  return {
    address: { redisUrl: address.redisUrl, prefix: address.prefix },
    async open() {
      const queue = await openFailover(address, { readyMs: 0 });
      const { depth, parked, replayParked, dropParked } = queue.standIn.tasks;
      return {
        ...queue,
        failures: queue.standIn.failures,
        tasks: { ...queue.tasks, depth, parked, replayParked, dropParked },
      };
    },
  };
}
queuePromises("Redis while RabbitMQ is away", placeWithoutBroker);
outagePromises(() => ({ rabbit, redis }));
