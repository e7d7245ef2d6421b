/** Stories of tasks that wait or send others, over Redis alone and while RabbitMQ is away: nobody waits for them, and they are done once. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PASSWORD } from "./bodies.ts";
import { clusterEnv, clusterRig, expect, type Rig } from "./cluster-rig.ts";
import type { EndpointRequest } from "./servers/endpoint.ts";
import { message } from "./servers/mail.ts";
import { provide, type TestContext } from "./servers/provide.ts";
import { startProxy } from "./servers/proxy.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import type { Service } from "./service.ts";
import { type Outgoing, outgoing } from "./stories/outgoing.ts";
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

async function overRedis(t: TestContext, story: (redisUrl: string) => Promise<void>): Promise<void> {
  if (!redis) return t.skip("no redis");
  await story(redis.url);
}

/** How many deliveries the node knows as delivered. */
async function delivered(node: Service): Promise<number> {
  return expect(await node.call("GET", "/api/v1/deliveries?state=delivered&limit=1"), 200).total;
}

type Posted = { type?: string; data?: { id?: string; subject?: string } };
const postedOf = ({ json }: EndpointRequest) => (json ?? {}) as Posted;

/** Eight requests at once whose mail is sent and reported, while other mail comes in. */
async function sendEight(s: Outgoing, mailbox: string): Promise<void> {
  const answers = await Promise.all(Array.from({ length: 8 }, (_, n) => s.send(mailbox, { subject: `mail ${n}` })));
  assert.deepEqual(
    answers.map((answer) => answer.status),
    answers.map(() => 202),
  );
  for (const { body } of answers) await s.until(body.id, "sent");
  await s.service.until("the endpoint to hear of all", () => {
    const heard = s.endpoint.received.map(postedOf).filter(({ type }) => type === "message.sent");
    return new Set(heard.map(({ data }) => data?.id)).size === 8;
  });
  assert.equal(s.smtp.taken.length, 8, "nobody gets a mail twice");
}

async function receivesMail(s: Outgoing, user: string): Promise<void> {
  await s.mail.append(user, "INBOX", message({ subject: "incoming", text: "incoming" }));
  await s.service.until("the mail that came in", () =>
    s.endpoint.received.some((request) => postedOf(request).data?.subject === "incoming"),
  );
}

describe("a mailbox that deletes its mail days after the delivery, over Redis alone", () => {
  test("eight of them hold up no mail; each mail is posted once and recorded, also after kill -9, and is not deleted yet", (t) =>
    overRedis(t, async (redisUrl) => {
      const rig = await clusterRig({ redisUrl });
      try {
        const one = await rig.api("api-0");
        const receive = (id: string) => ({ ...receiveOf(rig, id), afterDelivery: { deleteAfterDays: 7 } });
        await rig.register(one, 9);
        for (let n = 0; n < 8; n++)
          expect(await one.call("PATCH", `/api/v1/mailboxes/box-${n}`, { receive: receive(`box-${n}`) }), 200);
        for (let n = 0; n < 9; n++) await status(one, `box-${n}`, "listening");
        for (let n = 0; n < 18; n++) await rig.send(`box-${n % 9}`);
        await rig.arrived();
        await one.until("all of them recorded", async () => (await delivered(one)) === 18);
        const { tasks } = expect(await one.call("GET", "/api/v1/nodes"), 200);
        assert.ok(tasks.delayed >= 8, `${tasks.delayed} orders to delete wait`);
        await one.kill();
        await one.start();
        for (let n = 0; n < 9; n++) await rig.send(`box-${n}`);
        await rig.arrived();
        await one.until("the new ones recorded", async () => (await delivered(one)) === 27);
        assert.equal(rig.endpoint.repeats.length, 0);
        assert.equal(rig.endpoint.received.length, 27);
        for (let n = 0; n < 9; n++) assert.equal(rig.mail.messages(`box-${n}`, "INBOX").length, 3);
      } finally {
        await rig.end();
      }
    }));
});

function receiveOf({ mail }: Rig, user: string) {
  const auth = { user, password: PASSWORD };
  return { protocol: "imap", host: "127.0.0.1", port: mail.imapPort, tls: "none", auth };
}

describe("eight requests at once to send mail that the endpoint hears about", () => {
  test("over Redis alone: all are accepted, sent and reported, and mail comes in", (t) =>
    overRedis(t, async (redisUrl) => {
      const s = await outgoing(clusterEnv({ redisUrl }));
      try {
        const { id, user } = await s.sender({ notify: true }, { listening: true });
        await sendEight(s, id);
        await receivesMail(s, user);
      } finally {
        await s.end();
      }
    }));

  test("while RabbitMQ is away for two seconds: the same, and the node is well when it is back", (t) =>
    overRedis(t, async (redisUrl) => {
      if (!rabbit) return t.skip("no rabbitmq");
      const proxy = await startProxy({ port: rabbit.port });
      const rabbitUrl = new URL(rabbit.url);
      rabbitUrl.port = String(proxy.port);
      const s = await outgoing(clusterEnv({ redisUrl, rabbitUrl: rabbitUrl.href }));
      try {
        const { id, user } = await s.sender({ notify: true }, { listening: true });
        await proxy.set({ refuse: true });
        proxy.resetAll();
        const sending = sendEight(s, id);
        await sleep(2_000);
        await proxy.set({});
        await sending;
        await s.service.until("the broker", () => s.service.facts.some(({ kind }) => kind === "queue.recovered"));
        await receivesMail(s, user);
        await s.service.until("no task left", async () => {
          const { tasks } = expect(await s.service.call("GET", "/api/v1/nodes"), 200);
          return tasks && tasks.ready + tasks.delayed + tasks.running === 0;
        });
      } finally {
        await s.end();
        await proxy.stop();
      }
    }));
});
