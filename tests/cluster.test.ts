/** Stories of several nodes: they share the mailboxes, speak with one voice, and stand in for one another. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, before, describe, test } from "node:test";
import {
  type ClusterOptions,
  clusterRig,
  expect,
  flowing,
  listenedBy,
  mailboxBody,
  type Rig,
  SESSION_SECONDS,
  shared,
} from "./cluster-rig.ts";
import { provide, type TestContext } from "./servers/provide.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import { bothRuntimes, programOf } from "./service.ts";
import { status } from "./stories/scene.ts";

let redis: Redis | undefined;
let rabbit: RabbitMq | undefined;
before(async () => {
  [redis, rabbit] = await Promise.all([
    provide("redis").then((provided) => provided?.server),
    provide("rabbitmq").then((provided) => provided?.server),
  ]);
});
after(async () => {
  await redis?.remove();
  await rabbit?.remove();
});

/** A rig over both servers, or over Redis alone; the test is skipped where one is missing. */
async function withRig(
  t: TestContext,
  story: (rig: Rig) => Promise<void>,
  { alone = false, env }: { alone?: boolean } & Pick<ClusterOptions, "env"> = {},
) {
  if (!redis || (!alone && !rabbit)) return t.skip("no redis or no rabbitmq");
  const rig = await clusterRig({
    command: bothRuntimes,
    redisUrl: redis.url,
    ...(rabbit && !alone && { rabbitUrl: rabbit.url }),
    ...(env && { env }),
  });
  return story(rig).finally(() => rig.end());
}

describe("several nodes", () => {
  test("what is asked of one is done by all: create, read, list, folders, pause, resume, delete", (t) =>
    withRig(t, async (rig) => {
      const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1"), rig.worker("worker-0")]);
      await rig.register(one, 8);
      await shared(two, 8, { "api-0": 1, "api-1": 1 });
      assert.equal(expect(await two.call("GET", "/api/v1/mailboxes/box-3"), 200).address, "box-3@example.com");
      const listed = expect(await two.call("GET", "/api/v1/mailboxes?limit=100"), 200);
      assert.equal(listed.total, 8);
      const folders = expect(await two.call("GET", "/api/v1/mailboxes/box-3/folders"), 200);
      assert.ok(folders.items.some(({ path }: { path: string }) => path === "INBOX"));
      const { id: _, ...fresh } = mailboxBody(rig, "box-3");
      assert.equal(expect(await two.call("POST", "/api/v1/mailboxes/validate", fresh), 200).ok, true);
      for (const box of ["box-0", "box-1", "box-2", "box-3"]) {
        expect(await two.call("POST", `/api/v1/mailboxes/${box}/pause`), 200);
        expect(await one.call("DELETE", `/api/v1/mailboxes/${box.replace(/\d/, (n) => String(Number(n) + 4))}`), 204);
      }
      await two.until("nothing listened to", async () => Object.keys(await listenedBy(two)).length === 0);
      await two.until("no connection", () => rig.mail.connections === 0);
      for (const box of ["box-0", "box-1", "box-2", "box-3"]) {
        const { state } = expect(await one.call("GET", `/api/v1/mailboxes/${box}`), 200);
        assert.equal(state.status, "paused");
      }
      await rig.send("box-0");
      expect(await one.call("POST", "/api/v1/mailboxes/box-0/resume"), 200);
      await rig.arrived();
      await two.until("the delivery in the history that all nodes write", async () => {
        const { items } = expect(await two.call("GET", "/api/v1/mailboxes/box-0/events"), 200);
        return items.some(({ kind }: { kind: string }) => kind === "mail.delivered");
      });
    }));

  test("they share the mailboxes fairly, and tell who has how many, how many tasks wait and who takes them", (t) =>
    withRig(t, async (rig) => {
      const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1"), rig.worker("worker-0")]);
      await rig.register(one, 40);
      await shared(two, 40, { "api-0": 10, "api-1": 10 });
      for (let n = 0; n < 40; n++) await rig.send(`box-${n}`);
      await rig.arrived();
      assert.equal(rig.endpoint.repeats.length, 0);
      const told = await two.until("the nodes' own counts", async () => {
        const body = expect(await two.call("GET", "/api/v1/nodes"), 200);
        return body.items.reduce((sum: number, node: { mailboxes: number }) => sum + node.mailboxes, 0) === 40 && body;
      });
      const roles = told.items.map(({ name, role }: { name: string; role: string }) => `${name} ${role}`).toSorted();
      assert.deepEqual(roles, ["api-0 api", "api-1 api", "worker-0 worker"]);
      const { ready, delayed, parked, consumers } = told.tasks;
      assert.deepEqual({ ready, delayed, parked, consumers }, { ready: 0, delayed: 0, parked: 0, consumers: 3 });
      const seen = expect(await one.call("GET", "/api/listeners/status"), 200);
      assert.equal(seen.ServiceStatus, "Started");
      assert.equal(seen.nodes.length, 3);
    }));

  test("a node that joins gets its share, and one that stops hands over at once", (t) =>
    withRig(t, async (rig) => {
      // So long that nothing could be taken from a node that does not give it.
      const patient = { SESSION_TTL_SECONDS: "60" };
      const one = await rig.api("api-0", patient);
      await rig.register(one, 30);
      await shared(one, 30, { "api-0": 30 });
      const two = await rig.api("api-1", patient);
      await shared(one, 30, { "api-0": 5, "api-1": 5 });
      const stopped = two.stop();
      // Before anybody looks without being told, which is every 15 seconds.
      await shared(one, 30, { "api-0": 30 }, 12_000);
      assert.equal((await stopped).code, 0);
      for (let n = 0; n < 30; n++) await rig.send(`box-${n}`);
      await rig.arrived();
      assert.equal(rig.endpoint.repeats.length, 0);
    }));

  test("a killed node's mailboxes are listened to by the other when its session has ended", (t) =>
    withRig(t, async (rig) => {
      const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1"), rig.worker("worker-0")]);
      await rig.register(one, 30);
      await shared(two, 30, { "api-0": 5, "api-1": 5 });
      await one.kill();
      for (let n = 0; n < 30; n++) await rig.send(`box-${n}`);
      // Before anybody looks without being told, which is every 15 seconds.
      await shared(two, 30, { "api-1": 30 }, SESSION_SECONDS * 1000 + 12_000);
      await rig.arrived();
      assert.equal(rig.endpoint.repeats.length, 0);
      await one.start();
      await shared(two, 30, { "api-0": 5, "api-1": 5 });
    }));

  test("without any worker the API nodes do the tasks, and give them back to one that comes", (t) =>
    withRig(t, async (rig) => {
      const [one] = await Promise.all([rig.api("api-0"), rig.api("api-1")]);
      await rig.register(one, 10);
      await shared(one, 10, { "api-0": 1, "api-1": 1 });
      for (let n = 0; n < 10; n++) await rig.send(`box-${n}`);
      await rig.arrived();
      const worker = await rig.worker("worker-0");
      await worker.until("the worker's own deliveries", async () => {
        await rig.send("box-0");
        return delivered(worker) >= 5;
      });
      await worker.stop();
      for (let n = 0; n < 10; n++) await rig.send(`box-${n}`);
      await rig.arrived();
      assert.equal(rig.endpoint.repeats.length, 0);
    }));

  test("all nodes restarted one after the other under flow: nothing lost, nothing twice", (t) =>
    withRig(t, async (rig) => {
      const nodes = await Promise.all([
        rig.api("api-0"),
        rig.api("api-1"),
        rig.worker("worker-0"),
        rig.worker("worker-1"),
      ]);
      await rig.register(nodes[0], 20);
      await shared(nodes[1], 20, { "api-0": 1, "api-1": 1 });
      const flow = flowing(rig, 20);
      for (const node of nodes) {
        const { code } = await node.stop();
        assert.equal(code, 0);
        await node.start();
      }
      await flow.end();
      await rig.arrived();
      assert.equal(rig.endpoint.repeats.length, 0);
    }));

  test("with Redis alone two nodes share the mailboxes, do their own tasks, and one takes over from the other", (t) =>
    withRig(
      t,
      async (rig) => {
        const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1")]);
        await rig.register(one, 20);
        await shared(two, 20, { "api-0": 3, "api-1": 3 });
        let refused = 0;
        rig.endpoint.answer(({ earlier }) => (earlier === 0 && ++refused % 2 ? { status: 503 } : {}));
        for (let n = 0; n < 20; n++) await rig.send(`box-${n}`);
        await one.kill();
        for (let n = 0; n < 20; n++) await rig.send(`box-${n}`);
        await rig.arrived();
        assert.ok(refused > 0, "some had to be tried again");
        assert.equal(new Set(rig.endpoint.received.map(({ id }) => id)).size, 40, "each under one id");
      },
      { alone: true },
    ));

  test("tasks that nobody can do are listed, put back to work and dropped over the API", (t) =>
    withRig(t, async (rig) => {
      const one = await rig.api("api-0");
      const published = ["a", "b", "c"].map((id) => {
        const properties = { message_id: id, delivery_mode: 2 };
        const payload = JSON.stringify({ version: 1, kind: "unheard of", mailbox: "box-0" });
        const order = { routing_key: rig.env["RABBITMQ_QUEUE"], payload, payload_encoding: "string", properties };
        return rabbit?.api("POST", `/exchanges/${rabbit.vhost}/${rig.env["RABBITMQ_EXCHANGE"]}/publish`, order);
      });
      await Promise.all(published);
      const parked = async () => expect(await one.call("GET", "/api/v1/tasks/parked"), 200);
      const listed = (count: number) =>
        one.until(`${count} parked tasks`, async () => {
          const { items, total } = await parked();
          return items.length === count && total === count && items;
        });
      const found = await listed(3);
      assert.deepEqual(found.map(({ id }: { id: string }) => id).toSorted(), ["a", "b", "c"]);
      assert.equal(found[0].task, null);
      assert.match(found[0].reason, /another version/);
      const drop = { ids: ["b", "nobody"] };
      assert.deepEqual(expect(await one.call("POST", "/api/v1/tasks/parked/drop", drop), 200), { dropped: 1 });
      await listed(2);
      const again = expect(await one.call("POST", "/api/v1/tasks/parked/replay", { ids: ["a"] }), 202);
      assert.deepEqual(again, { replayed: 1 });
      const since = found.find(({ id }: { id: string }) => id === "a").parkedAt;
      await one.until("it to be tried and parked again", async () =>
        (await parked()).items.some(
          ({ id, parkedAt }: { id: string; parkedAt: string }) => id === "a" && parkedAt > since,
        ),
      );
      expect(await one.call("POST", "/api/v1/tasks/parked/drop", {}), 422);
    }));

  test("mailboxes that no node has room for are told, once, and so is when they have one", (t) =>
    withRig(
      t,
      async (rig) => {
        const one = await rig.api("api-0");
        await rig.register(one, 6);
        const unserved = async () => expect(await one.call("GET", "/api/v1/nodes"), 200).unserved;
        await one.until("two mailboxes to be left", async () => (await unserved()) === 2);
        const metric = async (at: typeof one) =>
          /^email_listener_mailboxes_unserved (\d+)$/m.exec((await at.call("GET", "/metrics")).body)?.[1];
        assert.equal(await metric(one), "2");
        const said = (what: string) =>
          one.facts.filter(({ kind, about }) => kind === "service.warned" && String(about).includes(what)).length;
        await one.until("it to be told", () => said("MAILBOXES_PER_NODE") > 0);
        await rig.api("api-1");
        await one.until("every mailbox to have a node", async () => (await unserved()) === 0);
        await one.until("that to be told", () => said("a node again") > 0);
        await shared(one, 6, { "api-0": 1, "api-1": 1 });
        assert.deepEqual([said("MAILBOXES_PER_NODE"), said("a node again")], [1, 1]);
      },
      { alone: true, env: { MAILBOXES_PER_NODE: "4" } },
    ));
});

describe("nodes that must not start", () => {
  const key = `k1:${Buffer.alloc(32, 1).toString("base64")}`;
  test("RabbitMQ without Redis, Redis without keys, and a worker without RabbitMQ are refused by the setting's name", () => {
    const broker = { RABBITMQ_URL: "amqp://127.0.0.1:1" };
    const cache = { REDIS_URL: "redis://127.0.0.1:1" };
    for (const [role, env, setting] of [
      ["api", broker, /RABBITMQ_URL needs REDIS_URL/],
      ["api", cache, /ENCRYPTION_KEYS must be set with REDIS_URL/],
      ["worker", { ...cache, ENCRYPTION_KEYS: key }, /set RABBITMQ_URL and REDIS_URL/],
      ["worker", {}, /set RABBITMQ_URL and REDIS_URL/],
    ] as const) {
      const { status: code, stderr } = started(role, env);
      assert.equal(code, 1);
      assert.match(stderr, setting);
    }
  });

  test("a node with another key is refused, and says which key is missing", (t) =>
    withRig(t, async (rig) => {
      const one = await rig.api("api-0");
      await rig.register(one, 1);
      const same = started("api", { ...rig.env, ENCRYPTION_KEYS: key, NODE_NAME: "api-1" });
      assert.equal(same.status, 1);
      assert.match(same.stderr, /key "k1" is not the one that encrypted/);
      const other = started("worker", { ...rig.env, ENCRYPTION_KEYS: key.replace("k1", "k2"), NODE_NAME: "worker-1" });
      assert.match(other.stderr, /key "k1" is missing/);
      await status(one, "box-0", "listening");
    }));
});

/** How many deliveries this node has made. */
function delivered(node: { facts: readonly { kind: string }[] }): number {
  return node.facts.filter(({ kind }) => kind === "mail.delivered").length;
}

/** Runs a node that is expected to end by itself. */
function started(role: "api" | "worker", env: Record<string, string>) {
  const all = { ...process.env, PORT: "0", DATA_DIR: ":memory:", REDIS_URL: "", RABBITMQ_URL: "", ...env };
  return spawnSync(process.execPath, [programOf(role)], { env: all, encoding: "utf8", timeout: 120_000 });
}
