/** The protocol record of a mailbox: what was said, without any password, token or content of a message, bounded, on every node. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { createRecorder } from "../shared/record/recorder.ts";
import { appendRecord, beginRecord, endRecord, purgeRecords, readRecord } from "../shared/record/stored.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { vault } from "../shared/store/vault.ts";
import { installClock } from "../shared/time.ts";
import { PASSWORD, popBody, register, toEndpoint } from "./bodies.ts";
import { clusterRig, expect, mailboxBody, shared } from "./cluster-rig.ts";
import { message } from "./servers/mail.ts";
import { startPop3Server } from "./servers/pop3.ts";
import { provide } from "./servers/provide.ts";
import type { Redis } from "./servers/redis.ts";
import { startSmtpScript } from "./servers/smtp-script.ts";
import { eventually } from "./servers/waiting.ts";
import type { Service } from "./service.ts";
import { nodeBeside, scene, status } from "./stories/scene.ts";

const BODY = "marked-body-5e1f";
const SUBJECT = "marked-subject-77aa";

let redis: Redis | undefined;
before(async () => {
  redis = (await provide("redis"))?.server;
});
after(() => redis?.remove());

const begin = async (at: Service, id: string) => expect(await at.call("POST", `/api/v1/mailboxes/${id}/record`), 200);
const read = async (at: Service, id: string): Promise<string> =>
  expect(await at.call("GET", `/api/v1/mailboxes/${id}/record`), 200);
const recorded = (at: Service, id: string, wanted: RegExp) =>
  at.until(String(wanted), async () => {
    const text = await read(at, id);
    return wanted.test(text) && text;
  });

/** The password in the forms in which it goes to a server. */
const FORMS = [PASSWORD, ...["ann", "user"].map((user) => `\0${user}\0${PASSWORD}`)].flatMap((text) => [
  text,
  Buffer.from(text).toString("base64").replace(/=*$/, ""),
]);

function checkNothingLeaks(text: string): void {
  for (const form of [...FORMS, BODY, SUBJECT]) assert.ok(!text.includes(form), `${form} is in\n${text}`);
}

describe("a record", () => {
  test("of IMAP and SMTP has each command and answer, without the login, contents and subjects", async () => {
    const smtp = await startSmtpScript({ mechanisms: ["PLAIN"] });
    const stage = await scene();
    try {
      const { service, mail, endpoint } = stage;
      const { id, user } = await stage.mailbox({ user: "user" });
      const send = { host: "127.0.0.1", port: smtp.port, tls: "none", auth: { user, password: PASSWORD } };
      expect(await service.call("PATCH", `/api/v1/mailboxes/${id}`, { send: { ...send, saveSent: "always" } }), 200);
      await status(service, id, "listening");
      assert.equal((await service.call("GET", `/api/v1/mailboxes/${id}/record`)).status, 404);
      const { until } = await begin(service, id);
      assert.ok(Date.parse(until) > Date.now());
      let sent = 0;
      await service.until("a message in the record", async () => {
        await mail.append(user, "INBOX", message({ subject: SUBJECT, text: `${BODY}\r\n`.repeat(50) }));
        await endpoint.waitFor((sent += 1));
        return /FETCH/.test(await read(service, id));
      });
      await service.until("a login in the record", async () => {
        expect(await service.call("POST", `/api/v1/mailboxes/${id}/test`), 200);
        return /LOGIN|AUTHENTICATE/.test(await read(service, id));
      });
      const letter = { to: ["bob@example.net"], subject: SUBJECT, text: BODY };
      expect(await service.call("POST", `/api/v1/mailboxes/${id}/messages?wait=20`, letter), 200);
      const text = await recorded(service, id, /smtp-[0-9a-f]+ C: DATA/);
      assert.match(text, /imap-[0-9a-f]{4} C: \S+ (LOGIN|AUTHENTICATE \S+) \[credentials\]/);
      assert.match(text, /imap-[0-9a-f]{4} S: \* \d+ FETCH/);
      assert.match(text, /smtp-[0-9a-f]{4} C: AUTH PLAIN \[credentials\]/);
      assert.match(text, /smtp-[0-9a-f]{4} S: 235/);
      assert.match(text, /C: MAIL FROM:/);
      checkNothingLeaks(text);
      assert.equal((await service.call("POST", `/api/v1/mailboxes/${id}/record/stop`)).status, 204);
      const answer = await service.call("GET", `/api/v1/mailboxes/${id}/record`);
      assert.match(answer.headers.get("content-type") ?? "", /^text\/plain/);
      assert.match(answer.headers.get("content-disposition") ?? "", /^attachment/);
    } finally {
      await stage.end();
      await smtp.stop();
    }
  });

  test("of POP3 has its commands, and of each message the size", async () => {
    const pop = await startPop3Server();
    pop.addUser("ann", PASSWORD);
    const { service, endpoint, end } = await nodeBeside(pop);
    try {
      const id = await register(service, popBody(pop, "ann", { deliver: toEndpoint(endpoint) }));
      await status(service, id, "polling");
      await begin(service, id);
      pop.add("ann", message({ subject: SUBJECT, text: `${BODY}\r\n`.repeat(50) }));
      await endpoint.waitFor(1);
      const text = await recorded(service, id, /C: RETR 1/);
      assert.match(text, /pop3-[0-9a-f]{4} S: \[\d+ bytes\]/);
      const whole = await recorded(service, id, /C: (PASS|APOP|AUTH \S+) \[credentials\]/);
      checkNothingLeaks(whole);
    } finally {
      await end();
    }
  });

  test("is on on the node that holds the mailbox, whichever node was asked, and a token sees its own only", async (t) => {
    if (!redis) return t.skip("no redis");
    const rig = await clusterRig({ redisUrl: redis.url });
    try {
      const [one, two] = await Promise.all([rig.api("api-0"), rig.api("api-1")]);
      await rig.register(one, 8);
      await shared(one, 8, { "api-0": 1, "api-1": 1 });
      const { items } = expect(await one.call("GET", "/api/v1/mailboxes"), 200);
      const held = items.find((item: any) => item.state.node === "api-1").id;
      await begin(one, held);
      await one.until("a line of the other node", async () => {
        await rig.send(held);
        await rig.arrived();
        return / api-1 imap-/.test(await read(one, held));
      });
      assert.equal(await read(two, held), await read(one, held));
      assert.equal((await one.call("GET", `/api/v1/mailboxes/${mailboxBody(rig, "box-9").id}/record`)).status, 404);
      const made = { name: "other", scopes: ["read", "manage"], mailboxPrefix: "other-" };
      const { token } = expect(await one.call("POST", "/api/v1/tokens", made), 201);
      for (const [method, path] of [
        ["GET", "record"],
        ["POST", "record"],
        ["POST", "record/stop"],
      ] as const) {
        const asOther = { authorization: `Bearer ${token}` };
        const reply = await one.call(method, `/api/v1/mailboxes/${held}/${path}`, undefined, asOther);
        assert.equal(reply.status, 404, `${method} ${path}`);
      }
    } finally {
      await rig.end();
    }
  });
});

async function withStore(work: (store: Awaited<ReturnType<typeof sqliteStore>>) => Promise<void>): Promise<void> {
  const keys = vault([{ id: "test", key: generateEncryptionKey() }]);
  const store = await sqliteStore({ path: ":memory:", vault: keys, windowDays: 7, spoolBytes: 1_000_000 });
  await work(store).finally(() => store.close());
}

describe("the store of records", () => {
  test("keeps at most 256 KB of the newest lines, and ten records that are on", () =>
    withStore(async (store) => {
      await beginRecord(store, "m");
      for (let n = 0; n < 30; n++) await appendRecord(store, "m", `${n} ${"x".repeat(9_990)}\n`.repeat(2));
      const { text = "" } = (await readRecord(store, "m")) ?? {};
      assert.ok(text.length <= 256 * 1024 + 100);
      assert.match(text, /^\[older lines were left out\]\n\d+ x/);
      assert.match(text, /\n29 x+\n$/);
      for (let n = 0; n < 9; n++) await beginRecord(store, `m${n}`);
      await assert.rejects(beginRecord(store, "more"), { code: "conflict" });
      assert.ok(await endRecord(store, "m3"));
      await beginRecord(store, "more");
      assert.equal(await endRecord(store, "nobody"), false);
    }));

  test("ends by itself, and is deleted a day later or with its mailbox", () =>
    withStore(async (store) => {
      let now = Date.parse("2026-11-30T12:00:00Z");
      using _ = installClock({
        now: () => now,
        monotonic: () => now,
        wakeAfter: (ms, wake) => {
          const timer = setTimeout(wake, Math.min(ms, 10));
          return () => clearTimeout(timer);
        },
      });
      const recorder = createRecorder(store, "here", () => undefined);
      const tap = recorder.openTap({ id: "m" }, "imap", ["hunter22"]);
      tap.line("C", "before");
      await beginRecord(store, "m");
      now += 3_000;
      await eventually(() => tap.isOn(), "on");
      tap.line("S", "the password hunter22 is wrong");
      now += 15 * 60_000;
      assert.equal(tap.isOn(), false);
      tap.line("C", "after");
      await recorder.close();
      const { text = "" } = (await readRecord(store, "m")) ?? {};
      assert.match(text, /here imap-[0-9a-f]{4} S: the password \[secret\] is wrong\n$/);
      assert.ok(!/before|after|hunter/.test(text));
      await purgeRecords(store, async () => true);
      assert.ok(await readRecord(store, "m"));
      await purgeRecords(store, async () => false);
      assert.equal(await readRecord(store, "m"), undefined);
      assert.equal(await store.documents.read("record m"), undefined);
      await beginRecord(store, "m");
      now += 25 * 3_600_000;
      await purgeRecords(store, async () => true);
      assert.equal(await readRecord(store, "m"), undefined);
    }));
});
