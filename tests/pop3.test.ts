/** POP3 under the faults that real servers have, and what is made of their words. */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { after, before, beforeEach, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import type { MailboxOf } from "../shared/contract/mailbox.ts";
import type { MailConnection } from "../shared/mail/mail.ts";
import type { Cursor } from "../shared/contract/message.ts";
import { openMailbox, preflights } from "../shared/mail/open.ts";
import { maildropPool } from "../shared/mail/pop3/maildrops.ts";
import { createLineStream } from "../shared/mail/pop3/stream.ts";
import { nextRun, validateSchedule } from "../shared/mail/schedule.ts";
import { PASSWORD } from "./bodies.ts";
import { all, depsFor, isProblem, maildropOn, type Watch, watchOn } from "./promises/mailbox-rig.ts";
import { numbered } from "./servers/mail.ts";
import { type Pop3Faults, type Pop3Server, startPop3Server } from "./servers/pop3.ts";

const { signal } = new AbortController();
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
    const watch = watchOn(mailbox(wish), depsFor({ maildrops: maildropPool(200), ...more }), cursors);
    open.push(watch);
    return watch;
  };
  /** Work in a session of its own. */
  const inSession = async <T>(work: (mail: MailConnection) => Promise<T>) => {
    const { connection } = watching();
    const result = await work(connection);
    await connection.close();
    return result;
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

  test("a greeting with a timestamp from a server without APOP: USER and PASS follow, unless APOP is required in clear", async () => {
    server.faults.noApop = true;
    const plain = { tls: "none", port: server.port } as const;
    for (const wish of [plain, { apop: true }] as Wish[]) {
      server.commands.length = 0;
      const watch = watching(wish);
      await watch.connected();
      await watch.stop();
      const verbs = server.commands
        .map((line) => line.split(" ")[0])
        .filter((verb) => /^(APOP|PASS)$/.test(verb ?? ""));
      assert.deepEqual(verbs, ["APOP", "PASS"]);
    }
    server.commands.length = 0;
    assert.ok((await watching({ ...plain, apop: true }).ended()) instanceof Problem);
    assert.ok(!server.commands.join().includes(PASSWORD));
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
    await assert.rejects(watch.connection.applyAfterDelivery(refs.slice(0, 1), "delete", signal));
    assert.equal(server.messages(user).length, 2);
    delete server.faults.dropAfter;
    await watch.stop();
    const mail = openMailbox.pop3(depsFor(), mailbox());
    await mail.applyAfterDelivery(refs.slice(0, 1), "delete", signal);
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
    await assert.rejects(mail.applyAfterDelivery(refs, "delete", signal), isProblem("connect"));
    delete server.faults.dropAt;
    await mail.applyAfterDelivery(refs, "delete", signal);
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
    await watch.connection.applyAfterDelivery(refs.slice(0, 1), "delete", signal);
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
      await watch.connection.applyAfterDelivery(refs.slice(0, 1), "delete", signal);
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

  test("a server that gives some messages other ids has none of them handed over as new mail", async () => {
    const year = new Date("2020-01-01");
    for (const n of [1, 2, 3, 4]) server.add(user, numbered(n, { date: year }), `some${n}`);
    const first = watching({});
    await first.connected();
    await first.stop();
    assert.equal(first.messages().length, 0);
    for (const one of server.messages(user).slice(0, 3)) one.uidl = `other-${one.uidl}`;
    server.add(user, numbered(5));
    const again = watching({}, first.cursors());
    await again.connected();
    const got = await all(again.connection.fetch(again.messages(), signal));
    assert.deepEqual(
      got.map((one) => ("raw" in one ? /X-Number: (\d+)/.exec(one.raw.toString())?.[1] : "")),
      ["5"],
    );
    await again.stop();
    // A crash after the numbers were stored brings none of the old ones back.
    for (const { cursor } of again.arrivals) {
      const later = watching({}, [cursor]);
      await later.connected();
      assert.ok(later.messages().length <= 1, String(cursor.uid));
      await later.stop();
    }
  });

  test("a server that shows nothing for a while has nothing old handed over when all is back under other ids", async () => {
    for (const n of [1, 2, 3, 4]) server.add(user, numbered(n, { date: new Date("2020-01-01") }), `before${n}`);
    const first = watching({});
    await first.connected();
    await first.stop();
    const stored = server.messages(user).splice(0);
    const empty = watching({}, first.cursors());
    await empty.connected();
    await empty.stop();
    for (const { raw, uidl } of stored) server.add(user, raw, `other-${uidl}`);
    server.add(user, numbered(5));
    const again = watching({}, empty.cursors());
    await again.connected();
    const got = await all(again.connection.fetch(again.messages(), signal));
    assert.deepEqual(
      got.map((one) => ("raw" in one ? /X-Number: (\d+)/.exec(one.raw.toString())?.[1] : "")),
      ["5"],
    );
    await again.stop();
  });

  test("a message that was shown under the id of another one is not taken for that one later", async () => {
    server.add(user, numbered(1), "one");
    const first = watching({ since: "2001-01-01" });
    await first.until(1);
    await first.stop();
    server.add(user, numbered(2), "one");
    const second = watching({ since: "2001-01-01" }, first.cursors());
    const [ref] = await second.until(1);
    assert.match(ref?.key ?? "", /^one ./);
    await second.stop();
    const contents = async () => {
      const { connection } = watching();
      const got = await all(connection.fetch(ref ? [ref] : [], signal));
      await connection.close();
      return got.map((one) => ("raw" in one ? /X-Number: (\d+)/.exec(one.raw.toString())?.[1] : "refused"));
    };
    const [, other] = server.messages(user);
    if (other) other.uidl = "two";
    assert.deepEqual(await contents(), []);
    const { connection } = watching();
    await connection.applyAfterDelivery(ref ? [ref] : [], "delete", signal);
    await connection.close();
    assert.equal(server.messages(user).length, 2);
    if (other) other.uidl = "one";
    server.messages(user).shift();
    assert.deepEqual(await contents(), ["2"]);
  });

  test("of two messages that are shown under one id each is perhaps known, and is downloaded by its size", async () => {
    server.add(user, numbered(1), "one");
    server.add(user, numbered(2, { subject: "A longer subject than that of the other" }), "two");
    const first = watching({ since: "2001-01-01" });
    await first.until(2);
    await first.stop();
    const [, second] = first.messages();
    const [wrong] = server.messages(user);
    if (wrong) wrong.uidl = "two";
    const shown = watching({ since: "2001-01-01" }, first.cursors());
    const [alias] = await shown.until(1);
    assert.match(alias?.key ?? "", /^two ./);
    assert.equal(alias?.perhapsKnown, true);
    const got = await all(shown.connection.fetch(second ? [second] : [], signal));
    assert.deepEqual(
      got.map((one) => ("raw" in one ? /X-Number: (\d+)/.exec(one.raw.toString())?.[1] : "refused")),
      ["2"],
    );
    await shown.stop();
  });

  test("a message that has the name of a delivered one, by mistake or anew, is neither taken for it nor deleted", async () => {
    const delivered = numbered(1);
    for (const noTop of [false, true]) {
      server.faults.noTop = noTop;
      server.add(user, delivered, "one");
      const watch = watching({ since: "2001-01-01" });
      const [ref] = await watch.until(1);
      await watch.stop();
      const [got] = await inSession((mail) => all(mail.fetch(ref ? [ref] : [], signal)));
      assert.ok(got && "raw" in got);
      const remove = () => inSession((mail) => mail.applyAfterDelivery([got.ref], "delete", signal));
      server.remove(user, "one");
      server.add(user, numbered(2), "two");
      server.faults.misname = { uidl: "two", as: "one" };
      const [misnamed] = await inSession((mail) => all(mail.fetch([got.ref], signal)));
      assert.match(misnamed && "problem" in misnamed ? misnamed.problem.message : "", /another unique id/);
      await remove();
      delete server.faults.misname;
      const [other] = server.messages(user);
      if (other) other.uidl = "one";
      await remove();
      assert.equal(server.messages(user).length, 1);
      server.remove(user, "one");
      server.add(user, delivered, "one");
      await remove();
      assert.equal(server.messages(user).length, 0);
    }
  });

  test("a refused deletion keeps no other message from being deleted, and no answer is taken for another one's", async () => {
    for (const noPipelining of [false, true]) {
      server.faults.noPipelining = noPipelining;
      for (const number of [1, 2, 3]) server.add(user, numbered(number), `${noPipelining}${number}`);
      const watch = watching({ since: "2001-01-01" });
      const refs = await watch.until(3);
      await watch.stop();
      const { connection } = watching();
      server.faults.refuseDeletion = `${noPipelining}1`;
      const [first, second, third] = refs;
      assert.ok(first && second && third);
      await assert.rejects(connection.applyAfterDelivery([first, second], "delete", signal), isProblem("protocol"));
      const [got] = await all(connection.fetch([third], signal));
      assert.match(got && "raw" in got ? got.raw.toString() : "", /^(?!\+OK)[^]*X-Number: 3\r\n/);
      delete server.faults.refuseDeletion;
      assert.equal(server.messages(user).length, 2);
      await connection.applyAfterDelivery([first, third], "delete", signal);
      assert.equal(server.messages(user).length, 0);
      await connection.close();
    }
  });

  test("a message whose size the list leaves out is asked for it, so that it is not taken for whole when it comes short", async () => {
    server.add(user, numbered(1), "left-out");
    server.faults.leaveOutOfList = "left-out";
    const watch = watching({ since: "2001-01-01" });
    const [ref] = await watch.until(1);
    assert.equal(ref?.size, server.messages(user)[0]?.raw.length);
    await watch.stop();
  });

  test("a message that neither list has is found by its number, wherever in the maildrop it is", async () => {
    for (const n of [1, 2, 3]) server.add(user, numbered(n), `id${n}`);
    for (const leftOut of ["id1", "id2", "id3"]) {
      server.faults.leaveOutOfBothLists = leftOut;
      const watch = watching({ since: "2001-01-01" });
      const refs = await watch.until(3);
      assert.deepEqual(
        refs.map(({ key }) => key),
        ["id1", "id2", "id3"],
      );
      await watch.stop();
    }
  });

  test("an id that the list gives to two messages of one size is asked for of each alone", async () => {
    for (const n of [1, 2]) server.add(user, numbered(n), `id${n}`);
    const first = watching({ since: "2001-01-01" });
    const [, second] = await first.until(2);
    await first.stop();
    server.faults.misname = { uidl: "id1", as: "id2" };
    const again = watching({ since: "2001-01-01" }, first.cursors());
    await again.connected();
    assert.deepEqual(again.messages(), []);
    const got = await all(again.connection.fetch(second ? [second] : [], signal));
    assert.deepEqual(
      got.map((one) => ("raw" in one ? /X-Number: (\d+)/.exec(one.raw.toString())?.[1] : "refused")),
      ["2"],
    );
    await again.stop();
  });

  test("a message whose id another one of the same size has got too is not given under either name", async () => {
    for (const n of [1, 2]) server.add(user, numbered(n), `id${n}`);
    const watch = watching({ since: "2001-01-01" });
    const [, second] = await watch.until(2);
    await watch.stop();
    const [wrong] = server.messages(user);
    if (wrong) wrong.uidl = "id2";
    const { connection } = watching();
    const got = await all(connection.fetch(second ? [second] : [], signal));
    assert.deepEqual(
      got.map((one) => ("problem" in one ? `${one.problem.code}: ${one.problem.message}` : one.raw.toString())),
      ["message: The server gives the unique id of this message to another message as well"],
    );
    await connection.close();
  });

  test("a message that is not shown while the server changes ids is perhaps known when it comes later", async () => {
    for (const n of [1, 2]) server.add(user, numbered(n), `id${n}`);
    const first = watching({ since: "2001-01-01" });
    await first.until(2);
    await first.stop();
    const [hidden] = server.messages(user).splice(0, 1);
    for (const one of server.messages(user)) one.uidl = "other2";
    const part = watching({ since: "2001-01-01" }, first.cursors());
    await part.until(1);
    await part.stop();
    server.add(user, hidden?.raw ?? "", "other1");
    const whole = watching({ since: "2001-01-01" }, part.cursors());
    const [back] = await whole.until(1);
    assert.deepEqual([back?.key, back?.perhapsKnown], ["other1", true]);
    await whole.stop();
  });

  test("a first look that was interrupted goes on with old mail, although messages were deleted meanwhile", async () => {
    const count = 450;
    for (let n = 1; n <= count; n++) server.add(user, numbered(n, { date: new Date("2020-01-01") }), `old${n}`);
    const first = watching({ since: "2001-01-01" });
    await first.connected();
    await first.stop();
    const middle = first.arrivals.find(({ messages }) => messages.length > 0)?.cursor;
    assert.ok(middle && middle.uid < count);
    server.remove(user, "old1");
    server.add(user, numbered(count + 1));
    const again = watching({ since: "2001-01-01" }, [middle]);
    await again.connected();
    assert.equal(again.messages().length, count - middle.uid + 1);
    await again.stop();
  });

  test("the cursor of 20,000 messages holds those still there, and the names of 500 that are gone", async () => {
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
    assert.ok((watch.cursors()[0]?.state?.length ?? Infinity) < 520 * 17);
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
    const [one] = await all(watch.connection.fetchHeaders?.(refs, signal) ?? []);
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
      const line = createLineStream(stream as unknown as Socket);
      for (let at = 0; at < text.length; at += size) stream.push(text.slice(at, at + size));
      assert.equal(await line.readLine(), "+OK");
      assert.equal((await line.readBlock(1000)).toString(), ".dot\r\n\r\nx\r\n..\r\n");
      assert.equal(await line.readLine(), "+OK next");
      assert.equal((await line.readBlock(1000)).toString(), "");
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
    assert.equal(validateSchedule({ cron: "* * * * *" }), undefined);
    assert.equal(validateSchedule({ cron: "every day" })?.path, "cron");
    assert.equal(validateSchedule({ cron: "* * * * * *" })?.path, "cron");
    assert.equal(validateSchedule({ cron: "* * * * *", timeZone: "Europe/Bonn" })?.path, "timeZone");
  });
});

const uids = (watch: Watch) => watch.messages().map(({ uid }) => uid);
const at = (text: string) => Date.parse(text);
