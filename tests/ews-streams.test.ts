/** What listening to Exchange promises: hints after everything that could have brought mail, on few connections, whatever happens to them. */
import assert from "node:assert/strict";
import { afterEach, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import type { PoolLimits } from "../shared/mail/ews/notifications/pool.ts";
import { downloadMime } from "../shared/mail/ews/items/mime-content.ts";
import { hintsRig, type HintsRig, SERVICE, soon } from "./promises/hints-rig.ts";
import { all, isProblem } from "./promises/mailbox-rig.ts";
import type { ExchangeOptions } from "./servers/exchange/server.ts";
import { numbered } from "./servers/mail.ts";

const { signal } = new AbortController();

const rigs: HintsRig[] = [];
const started = async (limits?: Partial<PoolLimits>, options?: ExchangeOptions) => {
  const one = await hintsRig(limits, options);
  rigs.push(one);
  return one;
};
afterEach(async () => {
  for (const one of rigs.splice(0)) await one.over();
});

describe("Listening to Exchange", () => {
  for (const [how, options] of [
    ["as Exchange writes it", {}],
    ["with a prefix", { prefix: "s" }],
    ["without prefixes, a byte at a time", { prefix: "", chunkBytes: 1 }],
  ] as const) {
    test(`new mail is a hint at its folder, ${how}`, async () => {
      const { server, follow } = await started({}, options);
      const one = await follow("a@example.com");
      await one.hinted(1);
      assert.deepEqual(one.heard, ["all"]);
      assert.deepEqual(one.how, [true]);
      await server.append("a@example.com", "inbox", numbered(1));
      await one.hinted(2);
      assert.deepEqual(one.heard[1], [server.folderId("a@example.com", "inbox")]);
      await one.until(() => one.beats() > 3);
    });
  }

  test("all folders are one subscription; a message that was moved is a hint at where it is now", async () => {
    const { server, add, follow } = await started();
    await add("a@example.com");
    const folder = await server.createFolder("a@example.com", "Inbox/Orders");
    const one = await follow("a@example.com", {}, () => "all");
    await one.hinted(1);
    const id = await server.append("a@example.com", "inbox", numbered(1));
    await one.hintedAt(server.folderId("a@example.com", "inbox"), 1);
    server.move("a@example.com", id, "Inbox/Orders");
    await one.hintedAt(folder, 1);
    assert.equal(server.subscriptions(), 1);
  });

  test("mailboxes of one account share a connection, and each hears of its own mail", async () => {
    const { server, follow } = await started({ perStream: 20 });
    const names = Array.from({ length: 30 }, (_, at) => `user${at}@example.com`);
    const all30 = await Promise.all(names.map((name) => follow(name, { access: "impersonate" })));
    await Promise.all(all30.map((one) => one.hinted(1)));
    await soon("two connections", () => server.streams().length === 2);
    assert.deepEqual(
      server.streams().toSorted((a, b) => a - b),
      [10, 20],
    );
    await Promise.all(names.map((name) => server.append(name, "inbox", numbered(1))));
    await Promise.all(
      all30.map((one, at) =>
        one.until(() => one.heard.some((ids) => ids.includes(server.folderId(names[at]!, "inbox")))),
      ),
    );
  });

  test("a connection that is cut is opened anew, and everybody on it looks", async () => {
    const { server, follow } = await started();
    const two = await Promise.all(
      ["a@example.com", "b@example.com"].map((name) => follow(name, { access: "delegate" })),
    );
    await Promise.all(two.map((one) => one.hinted(1)));
    await soon("one connection of both", () => server.streams().join() === "2");
    for (const one of two) await one.until(() => one.beats() > 1);
    const earlier = two.map((one) => one.heard.length);
    server.disconnectAll();
    await Promise.all(two.map((one, at) => one.hinted(earlier[at]! + 1)));
    await soon("one connection of both again", () => server.streams().join() === "2");
    assert.equal(server.subscriptions(), 2);
  });

  test("a server that was restarted has lost the subscriptions: they are made anew, without a word to anybody", async () => {
    const { server, follow } = await started();
    const one = await follow("a@example.com");
    await one.hinted(1);
    await server.stop();
    await server.append("a@example.com", "inbox", numbered(1));
    await server.start();
    await one.hinted(2);
    await server.append("a@example.com", "inbox", numbered(2));
    await one.hintedAt(server.folderId("a@example.com", "inbox"), 2);
    assert.equal(server.subscriptions(), 1);
  });

  test("subscriptions that expire, or miss events, are made anew and looked after", async () => {
    const { server, follow } = await started();
    const two = await Promise.all(
      ["a@example.com", "b@example.com"].map((name) => follow(name, { access: "impersonate" })),
    );
    await Promise.all(two.map((one) => one.hinted(1)));
    for (const fault of [() => server.expireSubscriptions(), () => server.missEvents()]) {
      await soon("both are heard for", () => server.streams().reduce((sum, one) => sum + one, 0) === 2);
      const earlier = two.map((one) => one.heard.length);
      fault();
      await Promise.all(two.map((one, at) => one.hinted(earlier[at]! + 1)));
      await soon("two subscriptions", () => server.subscriptions() === 2);
    }
  });

  test("a connection is replaced before its time is over, by which nothing is lost", async () => {
    const { server, follow } = await started({ lifeMs: 300 });
    const one = await follow("a@example.com");
    await one.hinted(4);
    assert.equal(server.streams().length, 1);
    assert.equal(server.subscriptions(), 1);
  });

  test("a server that ends connections in good order is asked again", async () => {
    const { server, follow } = await started({}, { minuteMs: 10 });
    const one = await follow("a@example.com");
    await one.hinted(4);
    assert.equal(one.how.includes(false), false);
    assert.ok(server.calls.filter(({ operation }) => operation === "GetStreamingEvents").length >= 4);
  });

  test("a server that ends every connection at once, in good order, is asked every few seconds", async () => {
    const { server, follow } = await started({ patienceMs: 300 }, { minuteMs: 1 });
    const one = await follow("a@example.com");
    await one.until(() => one.how.at(-1) === false);
    assert.equal(server.streams().length, 0);
  });

  test("a connection without heartbeats is deaf: it is opened anew", async () => {
    const { server, follow } = await started({ silenceMs: 1000 });
    const one = await follow("a@example.com");
    await one.until(() => one.beats() > 1);
    const earlier = one.heard.length;
    server.stopHeartbeats();
    await one.hinted(earlier + 1);
    server.startHeartbeats();
    await server.append("a@example.com", "inbox", numbered(1));
    await one.hintedAt(server.folderId("a@example.com", "inbox"), earlier + 1);
  });

  test("where connections never stay open, although the server answers otherwise, it is asked every few seconds", async () => {
    const { server, follow } = await started({ patienceMs: 300 });
    server.faults.always("GetStreamingEvents", { cut: 400 });
    const one = await follow("a@example.com");
    await one.until(() => one.how.at(-1) === false);
    const from = one.heard.length;
    await server.append("a@example.com", "inbox", numbered(1));
    await one.hintedAt(server.folderId("a@example.com", "inbox"), from);
  });

  test("when the mailbox that carries a connection leaves, the others go on over another, and look", async () => {
    const { server, follow } = await started();
    const names = ["a@example.com", "b@example.com", "c@example.com"];
    const three = [];
    for (const name of names) {
      const one = await follow(name, { access: "impersonate" });
      await one.hinted(1);
      three.push(one);
    }
    await soon("one connection of all", () => server.streams().join() === "3");
    const [first, ...others] = three;
    const earlier = others.map((one) => one.heard.length);
    await first?.stop();
    await Promise.all(others.map((one, at) => one.hinted(earlier[at]! + 1)));
    await soon("one connection of two", () => server.streams().join() === "2");
    await server.append("c@example.com", "inbox", numbered(1));
    await others[1]!.hintedAt(server.folderId("c@example.com", "inbox"), earlier[1]!);
  });

  test("who stops takes its subscription with it; the last one closes the connection", async () => {
    const { server, follow } = await started();
    const one = await follow("a@example.com");
    await one.hinted(1);
    await one.stop();
    assert.equal(((await one.ended()) as Error).name, "AbortError");
    await soon("no connection", () => server.streams().length === 0);
    assert.equal(server.subscriptions(), 0);
  });

  test("a server that allows three connections is not asked for a fourth: who finds no room is asked for every few seconds", async () => {
    const { server, follow } = await started({ perStream: 1 });
    server.limits.connections = 3;
    const five = [];
    for (const name of ["a", "b", "c", "d", "e"]) {
      const one = await follow(`${name}@example.com`, { access: "delegate" });
      await one.until(() => one.how.length > 0);
      five.push(one);
    }
    for (const one of five) await one.until(() => one.heard.length > 0);
    await soon("three connections", () => server.streams().length === 3);
    assert.deepEqual(
      five.map((one) => one.how.at(-1)),
      [true, true, true, false, false],
    );
    const asked = server.calls.filter(({ operation }) => operation === "GetStreamingEvents").length;
    await server.append("e@example.com", "inbox", numbered(1));
    await five[4]!.hintedAt(server.folderId("e@example.com", "inbox"), five[4]!.heard.length - 1);
    assert.equal(server.calls.filter(({ operation }) => operation === "GetStreamingEvents").length, asked);
  });

  test("where streams are refused there are pull subscriptions, which say by themselves that they lost events", async () => {
    const { server, follow } = await started();
    server.rejectStreaming();
    const one = await follow("a@example.com");
    await one.hinted(1);
    assert.deepEqual(one.how, [false]);
    await server.append("a@example.com", "inbox", numbered(1));
    await one.hintedAt(server.folderId("a@example.com", "inbox"), 1);
    const earlier = one.heard.length;
    server.missEvents();
    await one.until(() => one.heard.slice(earlier).includes("all"));
    assert.equal(server.streams().length, 0);
  });

  test("streams are tried again after a while", async () => {
    const { server, follow } = await started({ againMs: 500 });
    server.rejectStreaming();
    const one = await follow("a@example.com");
    await one.until(() => one.how.includes(false));
    server.rejectStreaming(false);
    await one.until(() => one.how.at(-1) === true);
    await one.until(() => one.beats() > 0);
  });

  test("with no subscription at all to be had, the mailbox is told to look by itself", async () => {
    const { server, follow } = await started();
    server.limits.subscriptions = 0;
    const one = await follow("a@example.com");
    await one.until(() => one.how.includes(false));
    assert.equal(server.subscriptions(), 0);
  });

  test("a busy server is left alone for as long as it asks", async () => {
    const { server, follow } = await started();
    server.faults.once("GetStreamingEvents", { responseCode: "ErrorServerBusy", backOffMs: 1500 });
    const began = performance.now();
    const one = await follow("a@example.com");
    await one.hinted(1);
    assert.ok(performance.now() - began >= 1400);
    assert.deepEqual(one.how, [true]);
  });

  test("a mailbox that does not exist, or may not be opened, is given up, and nobody else", async () => {
    const { server, follow } = await started();
    const good = await follow("a@example.com", { access: "impersonate" });
    await good.hinted(1);
    server.faults.once("Subscribe", { soapFault: "ErrorNonExistentMailbox" }, { user: "b@example.com" });
    const missing = await follow("b@example.com", { access: "impersonate" });
    assert.ok(isProblem("no_mailbox", "never")(await missing.ended()));
    server.faults.once("Subscribe", { responseCode: "ErrorAccessDenied" }, { user: "c@example.com" });
    const closed = await follow("c@example.com", { access: "impersonate" });
    assert.ok(isProblem("access", "never")(await closed.ended()));
    await server.append("a@example.com", "inbox", numbered(1));
    await good.hintedAt(server.folderId("a@example.com", "inbox"), 1);
  });

  test("a server that takes no request more is left alone for a while instead of being asked again and again", async () => {
    const { server, follow } = await started();
    server.faults.always("Subscribe", { responseCode: "ErrorExceededConnectionCount" });
    const one = await follow("a@example.com");
    const problem = await one.ended();
    assert.ok(problem instanceof Problem && problem.code === "too_many_connections");
    assert.ok(problem.retry instanceof Date);
    assert.equal(server.calls.filter(({ operation }) => operation === "Subscribe").length, 1);
  });

  test("a password that was changed is shown once, not once for each mailbox of the account", async () => {
    const { server, follow } = await started();
    const names = ["a@example.com", "b@example.com", "c@example.com"];
    const three = await Promise.all(names.map((name) => follow(name, { access: "impersonate" })));
    await Promise.all(three.map((one) => one.hinted(1)));
    await soon("one connection of all", () => server.streams().join() === "3");
    server.setPassword(SERVICE, "another one");
    server.disconnectAll();
    for (const one of three) assert.ok(isProblem("auth", "never")(await one.ended()));
    for (const { session } of three) {
      const asked = session.callLibrary(
        "GetFolder",
        (by) => session.library.Folder.Bind(by, session.folder("inbox")),
        signal,
      );
      await assert.rejects(asked, { code: "auth" });
    }
    assert.deepEqual(server.refusedLogins, [SERVICE]);
  });

  test("however many mailboxes of an account ask at once, they take turns on few connections", async () => {
    const { server, follow } = await started();
    const wires = (name: string) =>
      new Set(server.calls.filter(({ operation }) => operation === name).map(({ wire }) => wire));
    server.faults.always("Subscribe", { delayMs: 20 });
    const names = Array.from({ length: 40 }, (_, at) => `user${at}@example.com`);
    const forty = await Promise.all(names.map((name) => follow(name, { access: "impersonate" })));
    await Promise.all(forty.map((one) => one.hinted(1)));
    assert.ok(wires("Subscribe").size <= 8, `${wires("Subscribe").size} connections for subscriptions`);
    const ids = await Promise.all(names.map((name) => server.append(name, "inbox", numbered(1))));
    server.faults.always("GetItem", { delayMs: 50 });
    const got = await Promise.all(forty.map(({ session }, at) => all(downloadMime(session, [ids[at]!], signal))));
    assert.ok(got.flat().every((one) => "raw" in one));
    assert.ok(wires("GetItem").size <= 20, `${wires("GetItem").size} connections for downloads`);
  });

  test("requests for subscriptions and streams of a group go to one server, by its anchor and cookie", async () => {
    const { server, follow } = await started();
    const first = await follow("a@example.com", { access: "impersonate" });
    await first.hinted(1);
    const second = await follow("b@example.com", { access: "impersonate" });
    await second.hinted(1);
    const asked = server.calls.filter(
      ({ operation }) => operation === "Subscribe" || operation === "GetStreamingEvents",
    );
    assert.deepEqual(new Set(asked.map(({ anchor }) => anchor)), new Set(["a@example.com"]));
    assert.ok(asked.every(({ headers }) => headers["x-preferserveraffinity"] === "true"));
    assert.ok(asked.slice(1).every(({ headers }) => /X-BackEndOverrideCookie=/i.test(headers["cookie"] ?? "")));
  });
});

describe("Listening to Exchange, whatever happens", () => {
  test("every message is followed by a hint at its folder", async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    const random = seeded(seed);
    // Faults follow each other for longer than the usual patience of these tests, and none of them is for good.
    const { server, follow } = await started({ perStream: 3, patienceMs: 60_000 });
    const names = ["a", "b", "c", "d", "e"].map((name) => `${name}@example.com`);
    const five = await Promise.all(names.map((name) => follow(name, { access: "impersonate" })));
    const faults = [
      () => server.disconnectAll(),
      () => server.expireSubscriptions(),
      () => server.missEvents(),
      () => server.faults.once("GetStreamingEvents", { cut: Math.floor(random() * 1500) }),
      () => server.faults.once("GetStreamingEvents", { responseCode: "ErrorSubscriptionNotFound" }),
      () => server.faults.once("GetStreamingEvents", { soapFault: "ErrorInternalServerError" }),
      () => server.faults.once("GetStreamingEvents", { status: 503 }),
      () => server.faults.once("GetStreamingEvents", { cut: "before" }),
      async () => {
        await server.stop();
        await server.start();
      },
    ];
    const arrived: { at: number; folder: string; from: number }[] = [];
    for (let step = 0; step < 150; step++) {
      const at = Math.floor(random() * names.length);
      const name = names[at]!;
      arrived.push({ at, folder: server.folderId(name, "inbox"), from: five[at]!.heard.length });
      await server.append(name, "inbox", numbered(step));
      if (random() < 0.2) await faults[Math.floor(random() * faults.length)]!();
      await new Promise((resolve) => setTimeout(resolve, random() * 20));
    }
    for (const { at, folder, from } of arrived) {
      await five[at]!.hintedAt(folder, from).catch((error: unknown) => assert.fail(`${seed}: ${String(error)}`));
    }
  });
});

/** Numbers from 0 to 1 that are the same for the same seed (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
