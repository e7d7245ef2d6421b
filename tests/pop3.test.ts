/** POP3 under the faults that real servers have, and what is made of their words. */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { after, before, beforeEach, describe, test } from "node:test";
import { Secret } from "../shared/contract/secret.ts";
import type { MailboxOf } from "../shared/contract/mailbox.ts";
import type { Cursor } from "../shared/contract/message.ts";
import { openMailbox, preflights } from "../shared/mail/open.ts";
import { maildrops } from "../shared/mail/pop3/maildrops.ts";
import { lineOver } from "../shared/mail/pop3/stream.ts";
import { nextRun, wrongSchedule } from "../shared/mail/schedule.ts";
import { all, depsFor, isProblem, maildropOn, PASSWORD, type Watch, watchOn } from "./promises/mailbox-rig.ts";
import { numbered } from "./servers/mail.ts";
import { type Pop3Faults, type Pop3Server, startPop3Server } from "./servers/pop3.ts";

const signal = AbortSignal.timeout(300_000);
type Wish = Partial<MailboxOf<"pop3">["receive"]>;

describe("POP3", () => {
  let server: Pop3Server;
  let user = "";
  let users = 0;
  const open: Watch[] = [];
  before(async () => {
    server = await startPop3Server();
  });
  after(async () => {
    for (const watch of open) await watch.stop();
    await server.stop();
  });
  beforeEach(() => {
    for (const name of Object.keys(server.faults)) delete server.faults[name as keyof Pop3Faults];
    user = `user${++users}`;
    server.addUser(user, PASSWORD);
    server.commands.length = 0;
    server.logins.length = 0;
  });
  const place = () => ({ host: server.host, ca: server.ca, pop3Port: server.port, pop3sPort: server.tlsPort });
  const mailbox = (wish: Wish = {}) => maildropOn(place(), user, wish);
  const watching = (wish?: Wish, cursors?: Cursor[], more = {}) => {
    const watch = watchOn(mailbox(wish), depsFor({ maildrops: maildrops(200), ...more }), cursors);
    open.push(watch);
    return watch;
  };

  for (const [words, code, retry] of [
    ["[IN-USE] Do you have another POP session running?", "unavailable", "later"],
    ["[AUTH] Invalid login", "auth", "never"],
    ["[SYS/TEMP] Temporary authentication failure", "unavailable", "later"],
    ["[SYS/PERM] The mailbox cannot be opened", "unavailable", "never"],
    ["[LOGIN-DELAY] minimum time between mail checks violation", "throttled", "later"],
    ["maildrop already locked", "unavailable", "later"],
    ["[SYS/PERM] Your account is not enabled for POP access", "auth_method", "never"],
    ["Logon failure: unknown user name or bad password.", "auth", "never"],
  ] as const) {
    test(`a login refused with "${words}" is ${code}, to be tried ${retry}`, async () => {
      server.faults.refuseLogin = words;
      const error = await watching().ended();
      assert.ok(isProblem(code, retry)(error), String(error));
    });
  }

  test("logs in by USER and PASS over TLS, by APOP where the connection is plain, and by XOAUTH2", async () => {
    for (const [wish, verb] of [
      [{}, "PASS"],
      [{ tls: "none", port: server.port }, "APOP"],
      [{ tls: "none", port: server.port, apop: false }, "PASS"],
      [{ apop: true }, "APOP"],
      [{ auth: { user, accessToken: new Secret(PASSWORD) } }, "AUTH"],
    ] as [Wish, string][]) {
      server.commands.length = 0;
      const watch = watching(wish);
      await watch.connected();
      await watch.stop();
      assert.ok(
        server.commands.some((line) => line.startsWith(verb)),
        `${verb}: ${server.commands.join(", ")}`,
      );
      if (verb === "APOP") assert.ok(!server.commands.join().includes(PASSWORD));
    }
    assert.ok(server.logins.every(({ ok }) => ok));
  });

  test("a refused token is an auth problem after both halves of the exchange", async () => {
    const error = await watching({ auth: { user, accessToken: new Secret("old") } }).ended();
    assert.ok(isProblem("auth", "never")(error), String(error));
  });

  test("never logs in when words were slipped in before TLS, or the server has no STLS", async () => {
    server.faults.injectAfterStls = "+OK injected\r\n";
    const tls = { tls: "starttls", port: server.port } as const;
    assert.ok(isProblem("starttls", "never")(await watching(tls).ended()));
    assert.ok(!server.commands.some((line) => /^(USER|PASS|APOP|AUTH)/.test(line)));
  });

  test("a wrong CA is a tls problem, a pinned fingerprint needs none", async () => {
    const { ca: _, ...receive } = mailbox().receive;
    const deps = depsFor();
    const watch = watchOn({ ...mailbox(), receive }, deps);
    assert.ok(isProblem("tls")(await watch.ended()));
    await watch.stop();
  });

  test("a connection that drops after DELE deletes nothing, and the deletion can be repeated", async () => {
    for (const n of [1, 2]) server.add(user, numbered(n));
    const watch = watching({ since: "2001-01-01" });
    const refs = await watch.until(2);
    server.faults.dropAfter = "DELE";
    await assert.rejects(watch.connection.tidy(refs.slice(0, 1), "delete", signal));
    assert.equal(server.messages(user).length, 2);
    delete server.faults.dropAfter;
    await watch.stop();
    const mail = openMailbox.pop3(depsFor(), mailbox());
    await mail.tidy(refs.slice(0, 1), "delete", signal);
    assert.equal(server.messages(user).length, 1);
    await mail.close();
  });

  test("a server that drops instead of confirming QUIT has the deletion repeated", async () => {
    server.add(user, numbered(1));
    const mail = openMailbox.pop3(depsFor(), mailbox());
    const watch = watching({ since: "2001-01-01", poll: { everySeconds: 3600 } });
    const refs = await watch.until(1);
    await watch.stop();
    server.faults.dropAt = "QUIT";
    await assert.rejects(mail.tidy(refs, "delete", signal), isProblem("connect"));
    delete server.faults.dropAt;
    await mail.tidy(refs, "delete", signal);
    assert.equal(server.messages(user).length, 0);
    await mail.close();
  });

  test("two messages of one unique id are two messages, and deleting one leaves the other", async () => {
    server.add(user, numbered(1), "same");
    server.add(user, numbered(22, { text: "longer than the first" }), "same");
    const watch = watching({ since: "2001-01-01" });
    const refs = await watch.until(2);
    const got = await all(watch.connection.fetch(refs, signal));
    assert.equal(new Set(got.map((one) => ("raw" in one ? one.raw.toString() : ""))).size, 2);
    await watch.connection.tidy(refs.slice(0, 1), "delete", signal);
    assert.deepEqual(
      server.messages(user).map(({ raw }) => /X-Number: (\d+)/.exec(raw.toString())?.[1]),
      ["22"],
    );
    const [left] = await all(watch.connection.fetch(refs.slice(1), signal));
    assert.match(left && "raw" in left ? left.raw.toString() : "", /X-Number: 22/);
    server.add(user, numbered(3));
    await watch.until(3);
    assert.deepEqual(uids(watch), [1, 2, 3]);
    await watch.stop();
  });

  for (const faults of [{ noUidl: true }, { noUidl: true, noCapa: true, noPipelining: true }] as Pop3Faults[]) {
    test(`without ${Object.keys(faults).join(", ")} messages are told apart by their headers`, async () => {
      Object.assign(server.faults, faults);
      for (const n of [1, 2, 3]) server.add(user, numbered(n));
      const watch = watching({ since: "2001-01-01" });
      const refs = await watch.until(3);
      await watch.connection.tidy(refs.slice(0, 1), "delete", signal);
      server.add(user, numbered(4));
      await watch.until(4);
      await watch.stop();
      const again = watching({ since: "2001-01-01" }, watch.cursors());
      await again.connected();
      assert.deepEqual(again.messages(), []);
      const got = await all(again.connection.fetch(watch.messages().slice(1), signal));
      assert.equal(got.filter((one) => "raw" in one).length, 3);
      await again.stop();
    });
  }

  test("without TOP a first look since now hands over nothing, and then what is new", async () => {
    server.faults.noTop = true;
    server.add(user, numbered(1));
    const watch = watching();
    await watch.connected();
    assert.deepEqual(uids(watch), []);
    server.add(user, numbered(2));
    await watch.until(1);
    assert.deepEqual(uids(watch), [2]);
    await watch.stop();
  });

  test("a server that gives all messages other ids has only those of the last day handed over again", async () => {
    const facts: string[] = [];
    for (const n of [1, 2, 3]) server.add(user, numbered(n, { date: new Date("2020-01-01") }));
    server.add(user, numbered(4));
    const first = watching({ since: "2001-01-01" });
    await first.until(4);
    await first.stop();
    server.renumber(user);
    server.add(user, numbered(5));
    const again = watching({ since: "2001-01-01" }, first.cursors(), {
      emit: ({ kind }: { kind: string }) => facts.push(kind),
    });
    await again.connected();
    const got = await all(again.connection.fetch(again.messages(), signal));
    assert.deepEqual(
      got.map((one) => ("raw" in one ? /X-Number: (\d+)/.exec(one.raw.toString())?.[1] : "")),
      ["4", "5"],
    );
    assert.ok(facts.includes("mailbox.reset"));
    assert.ok(
      again.messages().every(({ uid }) => uid > 4),
      "under numbers of their own",
    );
    await again.stop();
  });

  test("the cursor of 20,000 messages holds those still there, and no more", async () => {
    const raw = numbered(1);
    for (let n = 0; n < 20_000; n++) server.add(user, raw, `m${n}`);
    const watch = watching({ poll: { everySeconds: 0.5 } });
    await watch.connected();
    const size = watch.cursors()[0]?.state?.length ?? 0;
    assert.ok(size > 0 && size < 20_000 * 17, `${size} bytes`);
    const tops = server.commands.filter((line) => line.startsWith("TOP")).length;
    assert.ok(tops <= 200, `${tops} headers were read to find what is new`);
    for (let n = 0; n < 19_990; n++) server.remove(user, `m${n}`);
    server.add(user, numbered(2));
    await watch.until(1, 60_000);
    assert.ok((watch.cursors()[0]?.state?.length ?? Infinity) < 200);
    assert.deepEqual(uids(watch), [20_001]);
    await watch.stop();
  });

  test("a slow server is waited for, a silent one is not", async () => {
    server.add(user, numbered(1));
    server.faults.delayMs = 150;
    const slow = watching({ since: "2001-01-01" }, [], { timeouts: { command: 1_000 } });
    await slow.until(1);
    await slow.stop();
    server.faults.delayMs = 3_000;
    const silent = watching({}, [], { timeouts: { command: 500 } });
    assert.ok(isProblem("timeout")(await silent.ended()));
  });

  test("one message that the server refuses keeps no other back; a fault of the whole server does", async () => {
    for (const n of [1, 2, 3]) server.add(user, numbered(n), `r${n}`);
    const watch = watching({ since: "2001-01-01" });
    const refs = await watch.until(3);
    server.faults.refuseMessage = { uidl: "r2", words: "cannot read this one" };
    const got = await all(watch.connection.fetch(refs, signal));
    assert.deepEqual(
      got.map((one) => ("raw" in one ? "raw" : one.problem.code)),
      ["raw", "message", "raw"],
    );
    server.faults.refuseMessage = { uidl: "r2", words: "[SYS/TEMP] try later" };
    await assert.rejects(all(watch.connection.fetch(refs, signal)), isProblem("unavailable"));
    delete server.faults.refuseMessage;
    assert.equal((await all(watch.connection.fetch(refs, signal))).length, 3, "and it works again");
    await watch.stop();
  });

  test("headers come without their messages", async () => {
    server.add(user, numbered(1, { bytes: 100_000 }));
    const watch = watching({ since: "2001-01-01" });
    const refs = await watch.until(1);
    const [one] = await all(watch.connection.heads?.(refs, signal) ?? []);
    assert.ok(one && one.head.length < 1000 && /Subject: Message 1/.test(Buffer.from(one.head).toString()));
    await watch.stop();
  });

  test("another program's session is an unavailable mailbox, and no login is made beside our own", async () => {
    const others = server.open().refusedAsInUse;
    server.add(user, numbered(1));
    const watch = watching({ since: "2001-01-01" });
    const refs = await watch.until(1);
    await Promise.all(Array.from({ length: 20 }, () => all(watch.connection.fetch(refs, signal))));
    assert.equal(server.open().refusedAsInUse, others);
    await watch.stop();
  });

  test("the preflight names the step that fails", async () => {
    const good = await preflights.pop3(depsFor(), mailbox(), signal);
    assert.deepEqual(
      good.steps.map(({ name, ok }) => `${name} ${ok}`),
      ["dns true", "tcp true", "tls true", "login true", "capabilities true", "folders true", "idle true"],
    );
    const wrong = mailbox({ auth: { user, password: new Secret("no") } });
    const bad = await preflights.pop3(depsFor(), wrong, signal);
    assert.deepEqual([bad.ok, bad.steps.at(-1)?.name], [false, "login"]);
  });
});

describe("lines of POP3", () => {
  test("blocks are read whatever the pieces they come in", async () => {
    const text = "+OK\r\n..dot\r\n\r\nx\r\n...\r\n.\r\n+OK next\r\n.\r\n";
    for (let size = 1; size <= text.length; size++) {
      const stream = new PassThrough();
      const line = lineOver(stream as unknown as Socket);
      for (let at = 0; at < text.length; at += size) stream.push(text.slice(at, at + size));
      assert.equal(await line.line(), "+OK");
      assert.equal((await line.block(1000)).toString(), ".dot\r\n\r\nx\r\n..\r\n");
      assert.equal(await line.line(), "+OK next");
      assert.equal((await line.block(1000)).toString(), "");
    }
  });
});

describe("a schedule", () => {
  test("by interval counts from when the last run fell due", () => {
    assert.equal(nextRun({ everySeconds: 60 }, 1000), 61_000);
  });
  test("by cron follows the wall clock of its time zone, through its changes", () => {
    const poll = { cron: "0 8 * * *", timeZone: "Europe/Berlin" };
    assert.equal(nextRun(poll, at("2026-03-28T12:00:00Z")), at("2026-03-29T06:00:00Z"));
    assert.equal(nextRun(poll, at("2026-03-27T12:00:00Z")), at("2026-03-28T07:00:00Z"));
  });
  test("that cannot be read is named", () => {
    assert.equal(wrongSchedule({ cron: "* * * * *" }), undefined);
    assert.equal(wrongSchedule({ cron: "every day" })?.path, "cron");
    assert.equal(wrongSchedule({ cron: "* * * * * *" })?.path, "cron");
    assert.equal(wrongSchedule({ cron: "* * * * *", timeZone: "Europe/Bonn" })?.path, "timeZone");
  });
});

const uids = (watch: Watch) => watch.messages().map(({ uid }) => uid);
const at = (text: string) => Date.parse(text);
