/** Stories of several workers: each mailbox has one that its tasks prefer, and no worker that dies, hangs or joins holds up or repeats mail. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { type Rig, clusterRig, shared } from "./cluster-rig.ts";
import { bothRuntimes } from "./service.ts";
import { provide, type TestContext } from "./servers/provide.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import type { Service } from "./service.ts";

const MAILBOXES = 12;

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

function withRig(t: TestContext, story: (rig: Rig) => Promise<void>, { alone = false } = {}) {
  if (!redis || (!alone && !rabbit)) return t.skip("no redis or no rabbitmq");
  return clusterRig({
    command: bothRuntimes,
    redisUrl: redis.url,
    ...(rabbit && !alone && { rabbitUrl: rabbit.url }),
  }).then((rig) => story(rig).finally(() => rig.end()));
}

async function sendRound(rig: Rig): Promise<void> {
  for (let n = 0; n < MAILBOXES; n++) await rig.send(`box-${n}`);
}

const delivered = (node: Service) => node.facts.filter(({ kind }) => kind === "mail.delivered");
const mailboxesOf = (node: Service, since = 0) =>
  delivered(node)
    .slice(since)
    .map(({ mailbox }) => String(mailbox));

/** Sends rounds of mail until two in a row had each mailbox delivered by the same node, and each of these nodes had some. */
async function untilSettled(rig: Rig, nodes: Service[]): Promise<void> {
  const end = Date.now() + 90_000;
  for (let last = ""; Date.now() < end;) {
    const since = nodes.map((node) => delivered(node).length);
    await sendRound(rig);
    await rig.arrived();
    const reported = () => nodes.reduce((sum, node, n) => sum + delivered(node).length - (since[n] ?? 0), 0);
    await nodes[0]?.until("the nodes to report their deliveries", () => reported() >= MAILBOXES);
    const parts = nodes.map((node, n) => mailboxesOf(node, since[n]).toSorted());
    const now = JSON.stringify(parts);
    if (now === last && parts.every((part) => part.length > 0)) return;
    last = now;
  }
  throw new Error("The mailboxes went from node to node");
}

/** Each message came, and no message came under two ids. */
function assertOneIdEach(rig: Rig, count: number): void {
  assert.deepEqual(rig.missing(), []);
  assert.equal(new Set(rig.endpoint.received.map(({ id }) => id)).size, count);
}

describe("several workers", () => {
  test("each mailbox stays with one worker, and a worker that joins takes over its share", (t) =>
    withRig(t, async (rig) => {
      const [api, one] = await Promise.all([rig.api("api-0"), rig.worker("worker-0")]);
      await rig.register(api, MAILBOXES);
      await shared(api, MAILBOXES, { "api-0": MAILBOXES });
      await sendRound(rig);
      await rig.arrived();
      const two = await rig.worker("worker-1");
      await untilSettled(rig, [one, two]);
      assert.equal(rig.endpoint.repeats.length, 0);
    }));

  test("kill -9 of a worker in a burst: all mail arrives under one id each, through the other", (t) =>
    withRig(t, async (rig) => {
      const [api, one, two] = await Promise.all([rig.api("api-0"), rig.worker("worker-0"), rig.worker("worker-1")]);
      await rig.register(api, MAILBOXES);
      await shared(api, MAILBOXES, { "api-0": MAILBOXES });
      await untilSettled(rig, [one, two]);
      const earlier = rig.endpoint.received.length;
      const since = delivered(two).length;
      const rounds = (async () => {
        for (let n = 0; n < 20; n++) await sendRound(rig);
      })();
      await two.until("the burst to reach it", () => delivered(two).length > since);
      await two.kill();
      await rounds;
      await rig.arrived();
      assertOneIdEach(rig, earlier + 20 * MAILBOXES);
    }));

  test("SIGSTOP of a worker: the mail of its mailboxes goes on through the other", (t) =>
    withRig(t, async (rig) => {
      const [api, one, two] = await Promise.all([rig.api("api-0"), rig.worker("worker-0"), rig.worker("worker-1")]);
      await rig.register(api, MAILBOXES);
      await shared(api, MAILBOXES, { "api-0": MAILBOXES });
      await untilSettled(rig, [one, two]);
      const earlier = rig.endpoint.received.length;
      two.pause();
      await sendRound(rig);
      await sendRound(rig);
      await rig.arrived();
      assertOneIdEach(rig, earlier + 2 * MAILBOXES);
      two.resume();
      await untilSettled(rig, [one, two]);
    }));

  test("with Redis alone, the node that listens to a mailbox performs its tasks, and another does when it is killed", (t) =>
    withRig(
      t,
      async (rig) => {
        const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1")]);
        await rig.register(one, MAILBOXES);
        await shared(one, MAILBOXES, { "api-0": 1, "api-1": 1 });
        await untilSettled(rig, [one, two]);
        const { items } = (await one.call("GET", "/api/v1/mailboxes?limit=100")).body;
        const held = items.filter(({ state }: { state: { node: string } }) => state.node === "api-1");
        const deliveredByTwo = new Set(mailboxesOf(two, delivered(two).length - held.length));
        assert.deepEqual([...deliveredByTwo].toSorted(), held.map(({ id }: { id: string }) => id).toSorted());
        const earlier = rig.endpoint.received.length;
        await sendRound(rig);
        await two.kill();
        await sendRound(rig);
        await rig.arrived();
        assertOneIdEach(rig, earlier + 2 * MAILBOXES);
      },
      { alone: true },
    ));
});
