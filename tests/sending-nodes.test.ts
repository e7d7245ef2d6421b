/** Mail that goes out from several nodes: whichever dies, another one goes on, and nobody gets two copies. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { clusterRig, expect, mailboxBody, type Rig } from "./cluster-rig.ts";
import { bothRuntimes } from "./service.ts";
import { provide } from "./servers/provide.ts";
import type { RabbitMq } from "./servers/rabbitmq.ts";
import type { Redis } from "./servers/redis.ts";
import { type SmtpScript, startSmtpScript, type Step } from "./servers/smtp-script.ts";
import type { Service } from "./service.ts";

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

/** Others leave a sending alone for a few seconds instead of minutes. */
const QUICK = { COMMAND_TIMEOUT_SECONDS: "0.3" };

type Nodes = { asked: Service; sends: Service; other: Service };

/** What a node's death at this step leaves, as the next node finds it. */
const ENDS: [Step, "sent" | "unknown", 0 | 1][] = [
  ["rcpt", "sent", 1],
  ["data", "sent", 1],
  ["end", "unknown", 0],
  ["taken", "unknown", 1],
];

async function killedAt(rig: Rig, smtp: SmtpScript, nodes: Nodes, [step, ends, copies]: (typeof ENDS)[number]) {
  const { asked, sends, other } = nodes;
  const send = { host: "127.0.0.1", port: smtp.port, tls: "none", saveSent: "never" };
  const receive = { ...mailboxBody(rig, "sender").receive, port: 1 };
  expect(await asked.call("PUT", "/api/v1/mailboxes/sender", { ...mailboxBody(rig, "sender"), receive, send }), 201);
  let done = false;
  smtp.play((moment) => {
    if (done || moment.step !== step) return undefined;
    done = true;
    return "hang";
  });
  const reached = smtp.reached(step);
  const message = { to: ["bob@example.net"], subject: "Hello" };
  const key = { "idempotency-key": "k" };
  const { id } = expect(await asked.call("POST", "/api/v1/mailboxes/sender/messages", message, key), 202);
  await reached;
  await new Promise((resolve) => setTimeout(resolve, 150));
  await sends.kill();
  const again = expect(await other.call("POST", "/api/v1/mailboxes/sender/messages", message, key), 202);
  assert.equal(again.id, id, "the same request at another node is the same message");
  const over = await other.until(
    `${id} to be over`,
    async () => {
      const { body } = await other.call("GET", `/api/v1/messages/${id}`);
      return body.state !== "queued" && body;
    },
    60_000,
  );
  assert.equal(over.state, ends, over.reason);
  await new Promise((resolve) => setTimeout(resolve, 500));
  assert.equal(smtp.taken.length, copies);
}

describe("a node that is killed while it sends", () => {
  // Each of these takes as long as a dead node's claim, so the two ways share the steps between them.
  for (const end of ENDS.filter(([step]) => step !== "data")) {
    test(`at ${end[0]}, over Redis alone: the message is ${end[1]}, and the server has it ${end[2] === 1 ? "once" : "not"}`, async (t) => {
      if (!redis) return t.skip("no redis");
      const rig = await clusterRig({ command: bothRuntimes, redisUrl: redis.url, env: QUICK });
      const smtp = await startSmtpScript();
      try {
        const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1")]);
        await killedAt(rig, smtp, { asked: one, sends: one, other: two }, end);
      } finally {
        await rig.end();
        await smtp.stop();
      }
    });
  }

  for (const end of ENDS.filter(([step]) => step === "data" || step === "taken")) {
    test(`at ${end[0]}, a worker of RabbitMQ: the message is ${end[1]}, and the server has it ${end[2] === 1 ? "once" : "not"}`, async (t) => {
      if (!redis || !rabbit) return t.skip("no redis or no rabbitmq");
      const rig = await clusterRig({ command: bothRuntimes, redisUrl: redis.url, rabbitUrl: rabbit.url, env: QUICK });
      const smtp = await startSmtpScript();
      try {
        const [api, worker] = await Promise.all([rig.api("api-0"), rig.worker("worker-0")]);
        await killedAt(rig, smtp, { asked: api, sends: worker, other: api }, end);
      } finally {
        await rig.end();
        await smtp.stop();
      }
    });
  }
});
