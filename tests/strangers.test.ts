/** Nobody waits behind a stranger: one node on its embedded store, nodes over Redis, and a node with a worker over RabbitMQ. */
import { after, before, describe } from "node:test";
import { strangerPromises } from "./promises/strangers.ts";
import { provide } from "./servers/provide.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import { embedded, overServers } from "./stories/strangers.ts";

let redis: Redis | undefined;
let rabbit: RabbitMq | undefined;
before(async () => {
  redis = (await provide("redis"))?.server;
  rabbit = (await provide("rabbitmq"))?.server;
});
after(async () => {
  await redis?.remove();
  await rabbit?.remove();
});

describe("one node on its embedded store", () => {
  strangerPromises(() => embedded());
});

describe("a node over Redis", () => {
  strangerPromises(() => redis && overServers(redis.url));
});

describe("a node with a worker over RabbitMQ", () => {
  strangerPromises(() => (redis && rabbit ? overServers(redis.url, rabbit.url) : undefined));
});
