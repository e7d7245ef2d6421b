/** Stories of several nodes whose Redis, RabbitMQ or processes fail: nothing is lost, nothing gets two ids, all come back by themselves. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { clusterRig, expect, flowing, listenedBy, type Rig, shared } from "./cluster-rig.ts";
import { bothRuntimes } from "./service.ts";
import { type EndpointRequest } from "./servers/endpoint.ts";
import { provide, rabbitMqOrSkip, redisOrSkip, type TestContext } from "./servers/provide.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import { eventually } from "./servers/waiting.ts";
import type { Service } from "./service.ts";
import { subjectOf } from "./stories/scene.ts";

let sharedRedis: Redis | undefined;
let sharedRabbit: RabbitMq | undefined;
before(async () => {
  [sharedRedis, sharedRabbit] = await Promise.all([
    provide("redis").then((provided) => provided?.server),
    provide("rabbitmq").then((provided) => provided?.server),
  ]);
});
after(async () => {
  await sharedRedis?.remove();
  await sharedRabbit?.remove();
});

/** A server that a story stops is its own. */
async function withServers(
  t: TestContext,
  own: "redis" | "rabbit" | "none",
  story: (rig: Rig, servers: { redis: Redis; rabbit: RabbitMq }) => Promise<void>,
) {
  const redis = own === "redis" ? await redisOrSkip(t, {}, { owned: true }) : sharedRedis;
  const rabbit = own === "rabbit" ? await rabbitMqOrSkip(t, {}, { owned: true }) : sharedRabbit;
  if (!redis || !rabbit) return t.skip("a server is missing");
  // What the dead had in hand is waited for, so it is held for less than in production.
  const rig = await clusterRig({
    command: bothRuntimes,
    redisUrl: redis.url,
    rabbitUrl: rabbit.url,
    env: { CLAIM_SECONDS: "8" },
  });
  await story(rig, { redis, rabbit }).finally(() => rig.end());
}

/** Resolves once so many more messages were delivered. */
function delivered({ endpoint }: Rig, more: number): Promise<unknown> {
  const enough = endpoint.received.length + more;
  return eventually(() => endpoint.received.length >= enough, `${more} more messages`);
}

async function connections(node: Service): Promise<number> {
  return expect(await node.call("GET", "/api/listeners/status"), 200).connections.open;
}

/** Every message under one delivery id only, however often it came. */
function oneIdEach(received: readonly EndpointRequest[]): void {
  const ids = Map.groupBy(received, subjectOf);
  const twice = [...ids].filter(([, requests]) => new Set(requests.map(({ id }) => id)).size > 1);
  assert.deepEqual(
    twice.map(([subject]) => subject),
    [],
  );
}

describe("several nodes when something fails", () => {
  test("a node that stood still longer than its session delivers nothing under another id and moves no cursor", (t) =>
    withServers(t, "none", async (rig) => {
      const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1"), rig.worker("worker-0")]);
      await rig.register(one, 12);
      await shared(two, 12, { "api-0": 1, "api-1": 1 });
      const flow = flowing(rig, 12);
      await delivered(rig, 20);
      one.pause();
      // The other one has all of them only when the session is over.
      await shared(two, 12, { "api-1": 12 });
      await delivered(rig, 20);
      one.resume();
      await shared(two, 12, { "api-0": 1, "api-1": 1 });
      await flow.end();
      await rig.arrived();
      // What it had in hand it may post once more, as nothing protects a POST: the id does.
      oneIdEach(rig.endpoint.received);
    }));

  test("while RabbitMQ is away mail arrives through the API nodes; when it is back the workers get the work", (t) =>
    withServers(t, "rabbit", async (rig, { rabbit }) => {
      const [one, , worker] = await Promise.all([rig.api("api-0"), rig.api("api-1"), rig.worker("worker-0")]);
      await rig.register(one, 10);
      await shared(one, 10, { "api-0": 1, "api-1": 1 });
      const flow = flowing(rig, 10);
      await delivered(rig, 20);
      await rabbit.kill();
      await one.until("the node to know", () => one.facts.some(({ kind }) => kind === "queue.connection_failed"));
      // On a slow machine Redis may be late once.
      let nodes = await one.call("GET", "/api/v1/nodes");
      await one.until("an answer", async () => (nodes = await one.call("GET", "/api/v1/nodes")).status === 200);
      const away = expect(nodes, 200);
      assert.equal(away.tasks, null);
      assert.match(away.problem, /RabbitMQ|No connection/);
      assert.equal((await one.call("GET", "/readyz")).status, 200);
      const sent = await rig.send("box-0");
      await one.until("mail without a broker", () => !rig.missing().includes(sent));
      await rabbit.start();
      await one.until("the broker", () => one.facts.some(({ kind }) => kind === "queue.recovered"));
      const earlier = worker.facts.filter(({ kind }) => kind === "mail.delivered").length;
      await worker.until(
        "deliveries by the worker",
        () => worker.facts.filter(({ kind }) => kind === "mail.delivered").length > earlier + 10,
      );
      await flow.end();
      await rig.arrived();
      oneIdEach(rig.endpoint.received);
    }));

  test("while Redis is away what needs it says so, the process stays alive, and all goes on when it is back", (t) =>
    withServers(t, "redis", async (rig, { redis }) => {
      const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1"), rig.worker("worker-0")]);
      await rig.register(one, 10);
      await shared(two, 10, { "api-0": 1, "api-1": 1 });
      const flow = flowing(rig, 10);
      await delivered(rig, 20);
      await redis.kill();
      await one.until("the node to know", async () => (await one.call("GET", "/readyz")).status === 503);
      const paths = ["/api/v1/mailboxes", "/api/v1/mailboxes/box-1", "/api/v1/nodes", "/api/v1/deliveries"];
      for (const answer of await Promise.all(paths.map((path) => one.call("GET", path)))) {
        assert.equal(answer.status, 503);
        assert.match(answer.headers.get("content-type") ?? "", /problem\+json/);
        assert.equal(answer.body.code, "store");
      }
      assert.equal((await one.call("GET", "/healthz")).status, 200);
      assert.equal((await one.call("GET", "/api/listeners/status")).status, 200);
      assert.equal((await one.call("GET", "/readyz")).status, 503);
      for (const node of [one, two])
        await node.until(
          "nobody to listen who is not sure to be the owner",
          async () => (await connections(node)) === 0,
          10_000,
        );
      await redis.start();
      await shared(two, 10, { "api-0": 1, "api-1": 1 });
      await one.until("readiness", async () => (await one.call("GET", "/readyz")).status === 200);
      await flow.end();
      await rig.arrived(60_000);
      oneIdEach(rig.endpoint.received);
    }));

  test("when all nodes are killed at once, those that start take up what was under way", (t) =>
    withServers(t, "none", async (rig) => {
      const nodes = await Promise.all([rig.api("api-0"), rig.api("api-1"), rig.worker("worker-0")]);
      await rig.register(nodes[0], 10);
      await shared(nodes[0], 10, { "api-0": 1, "api-1": 1 });
      rig.endpoint.answer(({ earlier }) => (earlier < 2 ? { status: 500 } : {}));
      for (let n = 0; n < 30; n++) await rig.send(`box-${n % 10}`);
      await rig.endpoint.waitFor(() => rig.endpoint.requests.length > 15);
      await Promise.all(nodes.map((node) => node.kill()));
      // Else how long it takes is a matter of chance: an endpoint that refuses is asked with one message after each rest.
      rig.endpoint.answer(() => ({}));
      for (let n = 0; n < 30; n++) await rig.send(`box-${n % 10}`);
      await Promise.all(nodes.map((node) => node.start()));
      // What lost its task would be searched for after two minutes.
      await rig.arrived(200_000);
      oneIdEach(rig.endpoint.received);
      assert.equal(
        Object.values(await listenedBy(nodes[0])).reduce((sum, n) => sum + n, 0),
        10,
      );
    }));
});
