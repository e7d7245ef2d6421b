/** Nobody waits behind a stranger, at a node over Redis, and at a node with a worker over RabbitMQ. */
import { after, before, describe } from "node:test";
import { strangerPromises } from "./promises/strangers.ts";
import { provide } from "./servers/provide.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import { overServers } from "./stories/strangers.ts";

const [BUN, NODE] = ["node_modules/.bin/bun", "node_modules/node/bin/node"];

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

describe("a node over Redis, on Bun", () => {
  strangerPromises(() => redis && overServers(redis.url, undefined, () => [BUN]));
});

const bothRuntimes = (node: "api" | "worker") => [node === "api" ? BUN : NODE];
describe("a node on Bun with a worker on Node over RabbitMQ", () => {
  strangerPromises(() => (redis && rabbit ? overServers(redis.url, rabbit.url, bothRuntimes) : undefined));
});
