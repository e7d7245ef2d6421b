/** Alarms: one for each cause, told once when it begins and once when it ends, over several nodes and restarts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { imapBody, PASSWORD, register, toEndpoint } from "./bodies.ts";
import { clusterEnv, expect } from "./cluster-rig.ts";
import { startEndpoint } from "./servers/endpoint.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { redisOrSkip } from "./servers/provide.ts";
import { startSmtpScript } from "./servers/smtp-script.ts";
import { type Service, startService, TOKEN } from "./service.ts";

const ALARM_SECRET = `whsec_${Buffer.alloc(32, 7).toString("base64")}`;

type Told = { type: string; data: { code: string; place: string; count: number; cause: string; fix: string } };

test("an alarm begins and ends once over two nodes and a restart, is sent again until it is taken, and goes by mail too", async (t) => {
  const redis = await redisOrSkip(t);
  if (!redis) return;
  const [mail, smtp, endpoint, receiver] = await Promise.all([
    startImapServer(),
    startSmtpScript(),
    startEndpoint(),
    startEndpoint({ secret: ALARM_SECRET }),
  ]);
  const env = clusterEnv({
    redisUrl: redis.url,
    env: {
      ALARM_URL: receiver.url,
      ALARM_SECRET,
      ALARM_MAILBOX: "ops",
      ALARM_TO: "admin@example.net",
      CLAIM_SECONDS: "5",
    },
  });
  const nodes: Service[] = [];
  try {
    const first = await startService({ ...env, NODE_NAME: "first" });
    nodes.push(first);
    const second = await startService({ ...env, NODE_NAME: "second" });
    nodes.push(second);
    for (const user of ["ops", "anna"]) {
      await mail.addUser(user, PASSWORD);
      const send = { host: "127.0.0.1", port: smtp.port, tls: "none", saveSent: "never" };
      await register(first, imapBody(mail, user, { id: user, deliver: toEndpoint(endpoint), send }));
    }
    const withState = async (status: string) =>
      expect(await first.call("GET", `/api/v1/mailboxes?status=${status}`), 200).total;
    await first.until("two listen", async () => (await withState("listening")) === 2);

    const tested = expect(await second.call("POST", "/api/v1/alarms/test"), 200);
    assert.deepEqual(tested, {
      ok: true,
      channels: [
        { channel: "webhook", ok: true },
        { channel: "mail", ok: true },
      ],
    });
    await receiver.waitFor(1);
    const [letter] = await smtp.waitFor(1);
    assert.match(letter?.raw ?? "", /Subject: \[Email Listener\] Test: test at/);

    receiver.answer(() => ({ status: 503 }));
    await mail.stop();
    const undelivered = await first.until("an alarm that is not taken", async () => {
      const { undelivered: waiting } = expect(await first.call("GET", "/api/v1/alarms"), 200);
      return waiting.find(({ problem }: { problem: string | null }) => problem !== null);
    });
    assert.match(undelivered.problem, /^webhook: .*503/);
    assert.equal(undelivered.alarm.place, "127.0.0.1");
    // A mail that a node was about to hand over when it was killed is never sent again: its end is unknown.
    await smtp.waitFor(2, 120_000);
    await first.kill();
    await first.start();
    receiver.answer(() => ({}));
    await receiver.waitFor((request) => typeOf(request.json) === "alarm.began" && request.responded === 200);
    const { alarms } = expect(await first.call("GET", "/api/v1/alarms"), 200);
    assert.equal(alarms.length, 1, JSON.stringify(alarms));
    const page = await second.call("GET", "/alarms");
    assert.match(page.body, /One alarm is on\./);
    assert.match(page.body, /at <bdi>127\.0\.0\.1<\/bdi>/);

    await mail.start();
    await receiver.waitFor((request) => typeOf(request.json) === "alarm.ended", 120_000);
    await first.until("nothing is left", async () => {
      const { alarms: left, undelivered: waiting } = expect(await first.call("GET", "/api/v1/alarms"), 200);
      return left.length + waiting.length === 0;
    });
    const told = receiver.received.map(({ json }) => json as Told);
    assert.deepEqual(
      told.map(({ type }) => type),
      ["alarm.test", "alarm.began", "alarm.ended"],
    );
    const [, began] = told;
    assert.equal(began?.data.count, 2);
    assert.ok(began?.data.cause && began.data.fix);
    assert.deepEqual(receiver.repeats, []);
    const letters = await smtp.waitFor(3, 120_000);
    const words = letters.map(({ raw }) => /Subject: \[Email Listener\] (\w+):/.exec(raw)?.[1] ?? raw);
    assert.deepEqual(words.toSorted(), ["Over", "Test", "Trouble"]);
    for (const { output } of nodes) assert.ok(!output.includes(ALARM_SECRET) && !output.includes(TOKEN));
  } finally {
    await Promise.all(nodes.map((node) => node.end()));
    await Promise.all([mail.stop(), smtp.stop(), endpoint.stop(), receiver.stop()]);
  }
});

function typeOf(json: unknown): string | undefined {
  return (json as Told | undefined)?.type;
}
