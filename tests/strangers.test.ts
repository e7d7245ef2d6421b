/** Nobody waits behind a stranger: one node on its embedded store, a node over Redis, and a node with a worker over RabbitMQ. */
import { after, before, describe } from "node:test";
import { strangerPromises } from "./promises/strangers.ts";
import { provide } from "./servers/provide.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import { embedded, overServers } from "./stories/strangers.ts";

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

for (const [name, program] of Object.entries({ Bun: BUN, Node: NODE }))
  describe(`one node on its embedded store, on ${name}`, () => {
    strangerPromises(() => embedded([program]));
  });

describe("a node over Redis, on Bun", () => {
  strangerPromises(() => redis && overServers(redis.url, undefined, () => [BUN]));
});

const bothRuntimes = (node: "api" | "worker") => [node === "api" ? BUN : NODE];
describe("a node on Bun with a worker on Node over RabbitMQ", () => {
  strangerPromises(() => (redis && rabbit ? overServers(redis.url, rabbit.url, bothRuntimes) : undefined));
});
