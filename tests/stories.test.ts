/** Stories of one node: what a user is promised, under faults that are really made, counted at the endpoint. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { PASSWORD } from "./bodies.ts";
import { startEndpoint } from "./servers/endpoint.ts";
import { message, numbered } from "./servers/mail.ts";
import { oddMessages } from "./servers/odd-mail.ts";
import { startProxy } from "./servers/proxy.ts";
import { programOf } from "./service.ts";
import { scene, status, subjectOf, subjects } from "./stories/scene.ts";

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, index) => from + index);
const subject = (n: number) => `Message ${String(n).padStart(5, "0")}`;
const mail = (n: number, more = {}) => numbered(n, { subject: subject(n), ...more });

describe("one node, its mail and its endpoint", () => {
  test("a mail arrives and the endpoint has it, parsed and signed", async () => {
    const s = await scene();
    try {
      const { id, user } = await s.mailbox();
      await s.mail.append(
        user,
        "INBOX",
        message({ subject: "Grüße", text: "Hello\r\n", messageId: "<one@example.com>" }),
      );
      const request = await s.endpoint.waitFor((r) => r.verified);
      const { data, type } = request.json as any;
      assert.equal(type, "message.received");
      assert.equal(data.deliveryId, request.id);
      assert.equal(data.subject, "Grüße");
      assert.equal(data.messageId, "<one@example.com>");
      assert.equal(data.mailbox.id, id);
      assert.equal(data.text.trim(), "Hello");
      assert.deepEqual(await s.mail.flags(user, "INBOX"), new Map([[1, []]]), "the message is untouched on the server");
      const delivery = await s.service.until("the delivery to be listed", async () => {
        const { body } = await s.service.call("GET", `/api/v1/deliveries/${request.id}`);
        return body.state === "delivered" && body;
      });
      assert.equal(delivery.attempts.length, 1);
    } finally {
      await s.end();
    }
  });

  test("kill -9 in the middle of a burst loses nothing and makes no second delivery id", async () => {
    const s = await scene();
    try {
      const { user } = await s.mailbox();
      s.endpoint.answer(() => ({ delayMs: 5 }));
      for (const round of [0, 1, 2]) {
        const batch = range(round * 200 + 1, round * 200 + 200).map((n) => mail(n));
        const appended = s.mail.appendMany(user, "INBOX", batch);
        await s.endpoint.waitFor(round * 200 + 40);
        await s.service.kill();
        await appended;
        await s.service.start();
      }
      await s.endpoint.waitFor(600, 60_000);
      assert.deepEqual(subjects(s.endpoint), range(1, 600).map(subject));
    } finally {
      await s.end();
    }
  });

  test("kill -9 in the middle of a retry schedule: delivered after the restart, once, under the same id", async () => {
    const s = await scene();
    try {
      const { user } = await s.mailbox();
      s.endpoint.answer(() => ({ status: 503 }));
      await s.mail.appendMany(
        user,
        "INBOX",
        range(1, 20).map((n) => mail(n)),
      );
      await s.service.until(
        "every message to have failed",
        () => new Set(s.endpoint.requests.map((r) => r.id)).size >= 3,
      );
      await s.service.kill();
      s.endpoint.answer(() => ({}));
      await s.service.start();
      await s.endpoint.waitFor(20, 60_000);
      assert.deepEqual(subjects(s.endpoint), range(1, 20).map(subject));
      for (const { id, json } of s.endpoint.requests) assert.equal((json as any).data.deliveryId, id);
      assert.equal(new Set(s.endpoint.requests.map((r) => r.id)).size, 20);
    } finally {
      await s.end();
    }
  });

  test("a message deleted from the mailbox after the first failed attempt is still delivered", async () => {
    const s = await scene();
    try {
      const { user } = await s.mailbox();
      s.endpoint.answer((r) => (r.earlier < 2 ? { status: 500 } : {}));
      const uid = await s.mail.append(user, "INBOX", mail(1));
      await s.endpoint.waitFor((r) => r.responded === 500);
      await s.mail.expunge(user, "INBOX", uid);
      await s.endpoint.waitFor(1, 30_000);
      assert.deepEqual(subjects(s.endpoint), [subject(1)]);
    } finally {
      await s.end();
    }
  });

  test("a wrong password is tried three times and no more, and new credentials heal it", async () => {
    // The wait before a further attempt, ten minutes, is 600 ms here.
    const s = await scene({ BACKOFF_SCALE: "0.001" });
    try {
      const { id, user } = await s.mailbox({ password: "wrong", wait: false });
      const { id: other } = await s.mailbox();
      const state = await status(s.service, id, "needs_attention");
      assert.equal(state.problem.code, "auth");
      await sleep(800);
      const refused = () => s.mail.logins.filter((login) => login.user === user && !login.ok).length;
      assert.equal(refused(), 3);
      assert.equal((await status(s.service, other, "listening")).problem, null);
      await s.mail.append(user, "INBOX", mail(1));
      await s.service.kill();
      await s.service.start();
      await status(s.service, other, "listening");
      assert.equal(refused(), 3, "a restart does not try again either");
      const patched = await s.service.call("PATCH", `/api/v1/mailboxes/${id}`, {
        receive: { auth: { user, password: PASSWORD }, since: "2020-01-01" },
      });
      assert.equal(patched.status, 200, JSON.stringify(patched.body));
      await status(s.service, id, "listening");
      await s.endpoint.waitFor(1);
    } finally {
      await s.end();
    }
  });

  test("a deaf connection is found and reopened, and what arrived meanwhile is delivered", async () => {
    const s = await scene({ PROBE_SECONDS: "1", COMMAND_TIMEOUT_SECONDS: "1" });
    const proxy = await startProxy({ host: s.mail.host, port: s.mail.imapPort });
    try {
      const { id, user } = await s.mailbox({ receive: { port: proxy.port } });
      await proxy.set({ blackhole: true });
      await s.mail.append(user, "INBOX", mail(1));
      await s.service.until("the connection to be called deaf", () =>
        s.service.facts.some((f) => f.kind === "mailbox.disconnected" && f["mailbox"] === id),
      );
      await proxy.set({});
      await s.endpoint.waitFor(1, 30_000);
      await status(s.service, id, "listening");
    } finally {
      await proxy.stop();
      await s.end();
    }
  });

  test("a changed UIDVALIDITY repeats nothing and loses nothing, also across a restart", async () => {
    const s = await scene();
    try {
      const { user } = await s.mailbox();
      await s.mail.appendMany(
        user,
        "INBOX",
        range(1, 30).map((n) => mail(n)),
      );
      await s.endpoint.waitFor(30);
      await s.service.stop();
      await s.mail.append(user, "INBOX", mail(31));
      await s.mail.changeUidValidity(user, "INBOX");
      await s.mail.append(user, "INBOX", mail(32));
      await s.service.start();
      await s.endpoint.waitFor(32);
      await s.mail.changeUidValidity(user, "INBOX");
      await s.mail.append(user, "INBOX", mail(33));
      await s.mail.disconnectAll();
      await s.endpoint.waitFor(33);
      assert.deepEqual(subjects(s.endpoint), range(1, 33).map(subject));
      assert.equal(s.endpoint.repeats.length, 0);
    } finally {
      await s.end();
    }
  });

  test("odd and poisonous messages are delivered, and keep no other message back", async () => {
    const s = await scene();
    try {
      const { user } = await s.mailbox();
      const odd = Object.values(oddMessages).map((build, n) => build({ headers: { "X-Odd": String(n) } } as never));
      await s.mail.appendMany(user, "INBOX", odd);
      await s.mail.append(user, "INBOX", mail(1));
      await s.endpoint.waitFor((r) => r.responded === 200 && subjectOf(r) === subject(1));
      await s.endpoint.waitFor(odd.length + 1, 60_000);
      assert.equal((await s.service.call("GET", "/api/v1/deliveries?state=parked")).body.total, 0);
    } finally {
      await s.end();
    }
  });

  test("a message the mail server refuses to give keeps no other message back", async () => {
    const s = await scene();
    try {
      const { user } = await s.mailbox();
      s.mail.faults.rejectMessage(2);
      await s.mail.appendMany(
        user,
        "INBOX",
        range(1, 5).map((n) => mail(n)),
      );
      await s.endpoint.waitFor(4);
      assert.deepEqual(subjects(s.endpoint), [1, 3, 4, 5].map(subject));
    } finally {
      await s.end();
    }
  });

  test("a hung endpoint delays no other, and gets its mail when it is back", async () => {
    const s = await scene({ DELIVERY_TIMEOUT_SECONDS: "2", BACKOFF_SCALE: "0.1" });
    const hung = await startEndpoint();
    try {
      hung.answer(() => ({ hang: true }));
      const bad = await s.mailbox({ deliver: { url: hung.url, secret: hung.secret } });
      const good = await s.mailbox();
      await s.mail.appendMany(
        bad.user,
        "INBOX",
        range(1, 100).map((n) => mail(n)),
      );
      await hung
        .waitFor(() => true, 10_000)
        .catch(() => s.service.until("a request to the hung endpoint", () => hung.requests.length > 0));
      await s.mail.appendMany(
        good.user,
        "INBOX",
        range(101, 120).map((n) => mail(n)),
      );
      await s.endpoint.waitFor(20);
      hung.answer(() => ({}));
      await hung.waitFor(100, 90_000);
      assert.deepEqual(subjects(hung), range(1, 100).map(subject));
    } finally {
      await hung.stop();
      await s.end();
    }
  });

  test("an endpoint that is away gets everything when it is back, each once", async () => {
    const s = await scene({ BACKOFF_SCALE: "0.02" });
    try {
      const { user } = await s.mailbox();
      await s.endpoint.stop();
      await s.mail.appendMany(
        user,
        "INBOX",
        range(1, 50).map((n) => mail(n)),
      );
      await s.service.until(
        "deliveries to wait",
        async () => (await s.service.call("GET", "/api/v1/deliveries?state=retrying")).body.total === 50,
      );
      await s.endpoint.start();
      await s.endpoint.waitFor(50, 60_000);
      assert.deepEqual(subjects(s.endpoint), range(1, 50).map(subject));
      assert.equal(s.endpoint.repeats.length, 0);
    } finally {
      await s.end();
    }
  });

  test("410 disables the endpoint: mail is parked whole, and replayed to a new one", async () => {
    const s = await scene();
    const next = await startEndpoint({ secret: s.endpoint.secret });
    try {
      const { id, user } = await s.mailbox();
      s.endpoint.answer(() => ({ status: 410 }));
      await s.mail.appendMany(
        user,
        "INBOX",
        range(1, 3).map((n) => mail(n)),
      );
      const parked = await s.service.until("three parked deliveries", async () => {
        const { body } = await s.service.call("GET", `/api/v1/deliveries?state=parked&mailbox=${id}`);
        return body.total === 3 && body.items;
      });
      const raw = await s.service.call("GET", `/api/v1/messages/${parked[0].id}/raw`);
      assert.match(String(raw.body), /^Subject: Message/im);
      assert.equal(
        (await s.service.call("PATCH", `/api/v1/mailboxes/${id}`, { deliver: { url: next.url } })).status,
        200,
      );
      const replay = await s.service.call("POST", "/api/v1/deliveries/replay", {
        since: "2020-01-01T00:00:00Z",
        mailbox: id,
      });
      assert.ok(replay.status < 300, JSON.stringify(replay.body));
      await next.waitFor(3);
      assert.deepEqual(subjects(next), range(1, 3).map(subject));
      await status(s.service, id, "listening");
      await s.mail.append(user, "INBOX", mail(4));
      await next.waitFor(4);
    } finally {
      await next.stop();
      await s.end();
    }
  });

  test("a new secret is tried at once with the mail that waits, although its endpoint is paused", async () => {
    const s = await scene({ BACKOFF_SCALE: "100" });
    try {
      s.endpoint.answer(({ verified }) => ({ status: verified ? 200 : 401 }));
      const wrong = `whsec_${Buffer.from("another secret of 24 byte").toString("base64")}`;
      const { id, user } = await s.mailbox({ deliver: { secret: wrong } });
      const letters = range(1, 8).map((n) => mail(n));
      await s.mail.appendMany(user, "INBOX", letters);
      await s.service.until("the endpoint to be paused", () =>
        s.service.facts.some(({ kind }) => kind === "endpoint.paused"),
      );
      await s.service.until(
        "all mail to wait",
        async () => (await s.service.call("GET", "/api/v1/deliveries?state=retrying")).body.total === letters.length,
      );
      const right = { deliver: { secret: s.endpoint.secret } };
      assert.equal((await s.service.call("PATCH", `/api/v1/mailboxes/${id}`, right)).status, 200);
      await s.endpoint.waitFor(letters.length);
      assert.deepEqual(subjects(s.endpoint), range(1, 8).map(subject));
    } finally {
      await s.end();
    }
  });

  test("mail that arrives while a mailbox is paused is delivered when it is resumed", async () => {
    const s = await scene();
    try {
      const { id, user } = await s.mailbox();
      assert.ok((await s.service.call("POST", `/api/v1/mailboxes/${id}/pause`)).status < 300);
      await status(s.service, id, "paused");
      await s.mail.append(user, "INBOX", mail(1));
      await s.service.until("the connection to be closed", () => s.mail.connections === 0);
      assert.equal(s.endpoint.requests.length, 0);
      assert.ok((await s.service.call("POST", `/api/v1/mailboxes/${id}/resume`)).status < 300);
      await s.endpoint.waitFor(1);
    } finally {
      await s.end();
    }
  });

  test("resync hands over mail from before the start date, and repeats only when asked to", async () => {
    const s = await scene();
    try {
      const user = "early";
      await s.mail.addUser(user, PASSWORD);
      await s.mail.appendMany(
        user,
        "INBOX",
        range(1, 5).map((n) => mail(n)),
      );
      const { id } = await s.mailbox({ user, known: true });
      await s.mail.append(user, "INBOX", mail(6));
      await s.endpoint.waitFor(1);
      await s.service.call("POST", `/api/v1/mailboxes/${id}/resync`, { since: "2020-01-01T00:00:00Z" });
      await s.endpoint.waitFor(6);
      assert.deepEqual(subjects(s.endpoint), range(1, 6).map(subject));
      assert.equal(s.endpoint.repeats.length, 0);
      await s.service.call("POST", `/api/v1/mailboxes/${id}/resync`, {
        since: "2020-01-01T00:00:00Z",
        redeliver: true,
      });
      await s.service.until("all six again", () => s.endpoint.repeats.length >= 6);
      assert.equal(new Set(s.endpoint.received.map((r) => r.id)).size, 6, "again under the same ids");
    } finally {
      await s.end();
    }
  });

  for (const [afterDelivery, left] of [
    ["markRead", [["\\Seen"]]],
    ["delete", []],
    [{ move: "Done" }, []],
  ] as const) {
    test(`${JSON.stringify(afterDelivery)} is done on the mail server only after the endpoint accepted`, async () => {
      const s = await scene({ BACKOFF_SCALE: "0.02" });
      try {
        const user = "tidy";
        await s.mail.addUser(user, PASSWORD);
        await s.mail.createFolder(user, "Done");
        await s.mailbox({ user, known: true, receive: { afterDelivery } });
        s.endpoint.answer((r) => (r.earlier < 2 ? { status: 500 } : {}));
        await s.mail.append(user, "INBOX", mail(1));
        await s.service.until("a second attempt", () => s.endpoint.requests.length >= 2);
        assert.deepEqual([...(await s.mail.flags(user, "INBOX")).values()], [[]], "untouched while refused");
        await s.endpoint.waitFor(1);
        await s.service.until("the message to be tidied", async () => {
          const flags = [...(await s.mail.flags(user, "INBOX")).values()];
          return JSON.stringify(flags) === JSON.stringify(left);
        });
        assert.equal(await s.mail.count(user, "Done"), typeof afterDelivery === "object" ? 1 : 0);
      } finally {
        await s.end();
      }
    });
  }

  test("a graceful stop logs out, finishes what is in flight and repeats nothing after the next start", async () => {
    const s = await scene();
    try {
      const { user } = await s.mailbox();
      s.endpoint.answer(() => ({ delayMs: 300 }));
      await s.mail.appendMany(
        user,
        "INBOX",
        range(1, 60).map((n) => mail(n)),
      );
      await s.service.until("posts in flight", () => s.endpoint.open().now > 0);
      const { code } = await s.service.stop();
      assert.equal(code, 0, s.service.output.slice(-3000));
      assert.equal(s.mail.connections, 0);
      assert.ok(s.mail.commands.some(({ name }) => name === "LOGOUT"));
      await s.service.start();
      await s.endpoint.waitFor(60, 30_000);
      assert.deepEqual(subjects(s.endpoint), range(1, 60).map(subject));
      assert.equal(s.endpoint.repeats.length, 0);
    } finally {
      await s.end();
    }
  });

  test("a second process on the same data directory is refused and says why", async () => {
    const s = await scene();
    try {
      const second = spawn(process.execPath, [programOf("api")], {
        env: { ...process.env, PORT: "0", DATA_DIR: s.service.dataDir, REDIS_URL: "", RABBITMQ_URL: "" },
        stdio: ["ignore", "pipe", "pipe"],
      });
      let output = "";
      for (const stream of [second.stdout, second.stderr])
        stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
      const [code] = await once(second, "exit");
      assert.notEqual(code, 0);
      assert.match(output, new RegExp(String(s.service.pid)));
    } finally {
      await s.end();
    }
  });

  test("no password, secret or message body is in the log, in the answers, or in clear on disk", async () => {
    const s = await scene({ LOG_LEVEL: "debug" });
    try {
      const { id, user } = await s.mailbox();
      await s.mail.append(user, "INBOX", message({ subject: "Quarterly", text: "the body nobody may log" }));
      await s.endpoint.waitFor(1);
      const shown = JSON.stringify([
        (await s.service.call("GET", `/api/v1/mailboxes/${id}`)).body,
        (await s.service.call("GET", `/api/v1/mailboxes/${id}/events`)).body,
        (await s.service.call("GET", "/api/v1/diagnostics")).body,
        (await s.service.call("GET", "/metrics")).body,
      ]);
      await s.service.stop();
      const files = await Promise.all(
        (await readdir(s.service.dataDir)).map((name) => readFile(join(s.service.dataDir, name), "latin1")),
      );
      for (const secret of [PASSWORD, s.endpoint.secret, "the body nobody may log"]) {
        assert.ok(!s.service.output.includes(secret), "in the log");
        assert.ok(!shown.includes(secret), "in an answer");
        assert.ok(!files.some((file) => file.includes(secret)), "on disk");
      }
    } finally {
      await s.end();
    }
  });
});
