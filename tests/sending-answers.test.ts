/** What the answer to a request to send says: 202 with the state once the message was accepted, whatever happens to its first attempt. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { clusterEnv } from "./cluster-rig.ts";
import { provide, type TestContext } from "./servers/provide.ts";
import { type Proxy, startProxy } from "./servers/proxy.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import { type Outgoing, outgoing } from "./stories/outgoing.ts";

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

type Story = (s: Outgoing, lines: { redis?: Proxy; rabbit?: Proxy }) => Promise<void>;
type Place = "embedded" | "Redis alone" | "Redis and RabbitMQ";

function through(url: string, { port }: Proxy): string {
  const changed = new URL(url);
  changed.port = String(port);
  return changed.href;
}

/** A node at such a place, with lines to its servers that can be cut. */
async function withNode(t: TestContext, place: Place, story: Story): Promise<void> {
  const needsRedis = place !== "embedded";
  const needsRabbit = place === "Redis and RabbitMQ";
  if ((needsRedis && !redis) || (needsRabbit && !rabbit)) return t.skip("a server is missing");
  const toRedis = needsRedis && redis ? await startProxy({ port: redis.port }) : undefined;
  const toRabbit = needsRabbit && rabbit ? await startProxy({ port: rabbit.port }) : undefined;
  const env =
    toRedis && redis
      ? clusterEnv({
          redisUrl: through(redis.url, toRedis),
          ...(toRabbit && rabbit && { rabbitUrl: through(rabbit.url, toRabbit) }),
        })
      : {};
  const s = await outgoing(env);
  try {
    await story(s, { ...(toRedis && { redis: toRedis }), ...(toRabbit && { rabbit: toRabbit }) });
  } finally {
    await s.end();
    await toRedis?.stop();
    await toRabbit?.stop();
  }
}

/** The mail server falls silent at the first step after the greeting, until the test opens it. */
function hanging(s: Outgoing) {
  const gate = Promise.withResolvers<undefined>();
  s.smtp.play(({ step }) => (step === "mail" ? gate.promise : undefined));
  return { open: () => gate.resolve(undefined) };
}

for (const place of ["embedded", "Redis alone"] as const)
  describe(`the answer to a request to send (${place})`, () => {
    test("a server that defers the first attempt: 202, and the message is sent later, once", (t) =>
      withNode(t, place, async (s) => {
        const { id } = await s.sender();
        s.smtp.play(({ step, earlier }) => (step === "rcpt" && earlier < 2 ? "451 4.7.1 Greylisted" : undefined));
        const answer = await s.send(id);
        assert.equal(answer.status, 202);
        assert.equal(answer.body.state, "queued");
        assert.match(answer.headers.get("location") ?? "", new RegExp(`/api/v1/messages/${answer.body.id}$`));
        const sending = await s.until(answer.body.id, "sent");
        assert.ok(sending.attempts >= 2);
        assert.equal(s.smtp.taken.length, 1);
      }));

    test("a server that hangs: 202 without wait, and 202 with the state at the end of the wait", (t) =>
      withNode(t, place, async (s) => {
        const { id } = await s.sender();
        const server = hanging(s);
        const answers = await Promise.all([s.send(id), s.send(id, {}, { wait: 1 })]);
        assert.deepEqual(
          answers.map(({ status, body }) => [status, body.state]),
          [
            [202, "queued"],
            [202, "queued"],
          ],
        );
        server.open();
        for (const { body } of answers) await s.until(body.id, "sent");
        const quick = await s.send(id, {}, { wait: 20 });
        assert.deepEqual([quick.status, quick.body.state], [200, "sent"]);
      }));

    test("an endpoint that is away and should hear of it: 202, the mail is sent, and the endpoint hears of it once it is back", (t) =>
      withNode(t, place, async (s) => {
        const { id } = await s.sender({ notify: true });
        await s.endpoint.stop();
        const answers = await Promise.all(Array.from({ length: 8 }, (_, n) => s.send(id, { subject: `mail ${n}` })));
        assert.ok(answers.every((answer) => answer.status === 202));
        for (const { body } of answers) await s.until(body.id, "sent");
        assert.equal(s.smtp.taken.length, 8);
        await s.endpoint.start();
        await s.service.until("the endpoint to hear of all", () => s.endpoint.received.length === 8);
      }));

    test("a time to send in the future: 202 at once, with and without wait", (t) =>
      withNode(t, place, async (s) => {
        const { id } = await s.sender();
        const sendAt = new Date(Date.now() + 3_600_000).toISOString();
        for (const options of [{}, { wait: 1 }]) {
          const answer = await s.send(id, { sendAt }, options);
          assert.deepEqual([answer.status, answer.body.state], [202, "queued"]);
          assert.equal(answer.body.sendAt, sendAt);
        }
        assert.equal(s.smtp.connections.all, 0);
      }));
  });

describe("the answer to a request to send when something is away", () => {
  test("Redis: 503 that names Redis and nothing else, and nothing was accepted", (t) =>
    withNode(t, "Redis alone", async (s, { redis: line }) => {
      const { id } = await s.sender();
      await line?.set({ refuse: true });
      line?.resetAll();
      const answer = await s.send(id, {}, { wait: 1 });
      assert.equal(answer.status, 503);
      assert.equal(answer.body.code, "store");
      assert.match(answer.body.detail, /Redis/);
      assert.doesNotMatch(JSON.stringify(answer.body), /broker|RabbitMQ/);
      await line?.set({});
      const listed = await s.service.until("Redis to be back", async () => {
        const list = await s.service.call("GET", `/api/v1/mailboxes/${id}/messages`);
        return list.status === 200 && list.body;
      });
      assert.equal(listed.total, 0);
    }));

  test("RabbitMQ: 202, and the message is sent", (t) =>
    withNode(t, "Redis and RabbitMQ", async (s, { rabbit: line }) => {
      const { id } = await s.sender();
      await line?.set({ refuse: true });
      line?.resetAll();
      const answer = await s.send(id);
      assert.equal(answer.status, 202);
      await s.until(answer.body.id, "sent");
    }));

  test("RabbitMQ that is connected but says nothing: 202 soon, and the message is sent once", (t) =>
    withNode(t, "Redis and RabbitMQ", async (s, { rabbit: line }) => {
      const { id } = await s.sender();
      await line?.set({ blackhole: true });
      const answers = await Promise.all([s.send(id), s.send(id, {}, { wait: 1 })]);
      assert.deepEqual(
        answers.map(({ status }) => status),
        [202, 202],
      );
      for (const { body } of answers) await s.until(body.id, "sent");
      await line?.set({});
      line?.resetAll();
      await s.service.until("the broker", () => s.service.facts.some(({ kind }) => kind === "queue.recovered"));
      assert.equal(s.smtp.taken.length, 2);
    }));

  test("Redis, while the request waits for the result: 202 with the state last known, at the end of the wait", (t) =>
    withNode(t, "Redis alone", async (s, { redis: line }) => {
      const { id } = await s.sender();
      const server = hanging(s);
      const reached = s.smtp.reached("mail");
      const asking = s.send(id, {}, { wait: 3 });
      await reached;
      await line?.set({ blackhole: true });
      const answer = await asking;
      assert.deepEqual([answer.status, answer.body.state], [202, "queued"]);
      await line?.set({});
      line?.resetAll();
      server.open();
      const sending = await s.until(answer.body.id, "sent");
      assert.equal(sending.state, "sent");
      assert.equal(s.smtp.taken.length, 1);
    }));
});
