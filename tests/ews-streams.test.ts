/** What listening to Exchange promises: hints after everything that could have brought mail, on few connections, whatever happens to them. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { Secret } from "../shared/contract/secret.ts";
import PostalMime from "postal-mime";
import { type Egress, egress } from "../shared/egress.ts";
import { ewsHints, type HubLimits } from "../shared/mail/ews/hub.ts";
import { mimeOf } from "../shared/mail/ews/mime.ts";
import { type EwsSession, openEws } from "../shared/mail/ews/session.ts";
import { stopping } from "../shared/run.ts";
import { exchangeDeps, exchangeMailbox, type EwsWish } from "./promises/exchange-rig.ts";
import { all, isProblem, PASSWORD } from "./promises/mailbox-rig.ts";
import { type Exchange, type ExchangeOptions, startExchange } from "./servers/exchange/server.ts";
import { message, numbered } from "./servers/mail.ts";
import { waitingRoom } from "./servers/waiting.ts";

const signal = AbortSignal.timeout(300_000);
const SERVICE = "svc@example.com";

/** Times for tests: nothing waits longer than it must. */
const QUICK: Partial<HubLimits> = {
  silenceMs: 60_000,
  gatherMs: 100,
  settleMs: 300,
  patienceMs: 5000,
  backoff: () => 50,
  everyMs: 100,
  againMs: 60_000,
};

/** Without `access` everybody has a login of their own. */
function mailboxAt(server: Exchange, address: string, wish: EwsWish) {
  const auth = { user: wish.access ? SERVICE : address, password: new Secret(PASSWORD) };
  return exchangeMailbox(address, server.url, { scheme: "basic", auth, ...wish });
}

/** A server with a hub beside it, and what follows by them. */
async function rig(limits: Partial<HubLimits> = {}, options: ExchangeOptions = {}) {
  const server = await startExchange({ heartbeatMs: 200, ...options });
  await server.addUser(SERVICE, PASSWORD);
  const hints = ewsHints({ ...QUICK, ...limits });
  const guard = egress("allow");
  let dialled = 0;
  const counted: Egress = {
    ...guard,
    connect(to, until) {
      dialled++;
      return guard.connect(to, until);
    },
  };
  const deps = exchangeDeps({ egress: counted });
  const followers: { stop(): Promise<void> }[] = [];
  const known = new Set<string>();
  const add = async (address: string) => {
    known.add(address);
    await server.addUser(address, PASSWORD, { impersonators: [SERVICE], delegates: [SERVICE] });
  };

  async function follow(
    address: string,
    wish: EwsWish = {},
    folders: (session: EwsSession) => "all" | string[] = () => ["inbox"],
  ) {
    if (!known.has(address)) await add(address);
    const session = await openEws(deps, mailboxAt(server, address, wish), signal);
    const room = waitingRoom();
    const stop = new AbortController();
    const heard: (string[] | "all")[] = [];
    const how: boolean[] = [];
    let beats = 0;
    let end: { error: unknown } | undefined;
    const wanted = folders(session);
    const list = wanted === "all" ? wanted : wanted.map((name) => session.folder(name));
    const running = hints
      .follow(
        session,
        list,
        (stirred) => {
          heard.push(stirred);
          room.wake();
        },
        (sign) => {
          if (sign.kind === "how") how.push(sign.push);
          else beats++;
          room.wake();
        },
        stop.signal,
      )
      .catch((error: unknown) => {
        end = { error };
        room.wake();
      });
    const tell = () =>
      `hints ${JSON.stringify(heard)}, how ${how.join()}, ended with ${String(end?.error ?? "nothing")}`;
    const until = async <T>(find: () => T | undefined | false) =>
      room.until(
        () => {
          const found = find();
          if (!found && end) throw end.error;
          return found || undefined;
        },
        20_000,
        tell,
      );
    const one = {
      session,
      heard,
      how,
      beats: () => beats,
      /** Resolves when there are so many hints. */
      hinted: (count: number) => until(() => heard.length >= count),
      /** Resolves when the folder was hinted at, or all. */
      hintedAt: (folder: string, from: number) =>
        until(() => heard.slice(from).some((stirred) => stirred === "all" || stirred.includes(folder))),
      until,
      ended: async () => (await room.until(() => end, 20_000, tell)).error,
      async stop() {
        stop.abort(stopping("enough"));
        await running;
        await session.close();
      },
    };
    followers.push(one);
    return one;
  }

  return {
    server,
    dialled: () => dialled,
    add,
    follow,
    async over() {
      await Promise.all(followers.map((one) => one.stop()));
      await server.stop();
    },
  };
}
type Rig = Awaited<ReturnType<typeof rig>>;

const rigs: Rig[] = [];
const started = async (limits?: Partial<HubLimits>, options?: ExchangeOptions) => {
  const one = await rig(limits, options);
  rigs.push(one);
  return one;
};
afterEach(async () => {
  for (const one of rigs.splice(0)) await one.over();
});

/** Resolves once it holds; for what only the server knows. */
async function soon(what: string, holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 2000; tries++) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.fail(what);
}

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

  test("a password that was changed is shown once, not once for each mailbox of the account", async () => {
    const { server, follow, dialled } = await started();
    const names = ["a@example.com", "b@example.com", "c@example.com"];
    const three = await Promise.all(names.map((name) => follow(name, { access: "impersonate" })));
    await Promise.all(three.map((one) => one.hinted(1)));
    await soon("one connection of all", () => server.streams().join() === "3");
    server.setPassword(SERVICE, "another one");
    const earlier = dialled();
    server.disconnectAll();
    for (const one of three) assert.ok(isProblem("auth", "never")(await one.ended()));
    for (const { session } of three) {
      const asked = session.ask("GetFolder", (by) => session.library.Folder.Bind(by, session.folder("inbox")), signal);
      await assert.rejects(asked, isProblem("auth", "never"));
    }
    assert.equal(dialled(), earlier + 1);
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
    const got = await Promise.all(forty.map(({ session }, at) => all(mimeOf(session, [ids[at]!], signal))));
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
    const { server, follow } = await started({ perStream: 3 });
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

describe("Downloading from Exchange", () => {
  let server: Exchange;
  let session: EwsSession;
  before(async () => {
    server = await startExchange({ chunkBytes: 1000 });
    await server.addUser("a@example.com", PASSWORD);
  });
  // Each on its own: what one learnt of a busy server would keep the next one waiting.
  beforeEach(async () => {
    session = await openEws(exchangeDeps(), mailboxAt(server, "a@example.com", {}), signal);
  });
  afterEach(() => session.close());
  after(() => server.stop());

  test("several messages come in one request, byte for byte, with what the server knows of them", async () => {
    const raws = [1, 2, 3].map((at) => Buffer.concat([Buffer.from(numbered(at)), Buffer.from([0x80, 0xff, 0x0a])]));
    const ids: string[] = [];
    for (const [at, raw] of raws.entries())
      ids.push(await server.append("a@example.com", "inbox", raw, { isRead: at === 1 }));
    const calls = server.calls.length;
    const got = await all(mimeOf(session, ids, signal));
    assert.equal(server.calls.length, calls + 1);
    assert.deepEqual(
      got.map((one) => one.id),
      ids,
    );
    assert.deepEqual(
      got.map((one) => "raw" in one && Buffer.from(one.raw)),
      raws,
    );
    assert.deepEqual(
      got.map((one) => "raw" in one && one.flags),
      [[], ["\\Seen"], []],
    );
  });

  test("a message that is gone, or that the server cannot give, does not keep the others back", async () => {
    const ids = await server.appendMany("a@example.com", "inbox", [numbered(4), numbered(5), numbered(6)]);
    server.remove("a@example.com", ids[1]!);
    const got = await all(mimeOf(session, [ids[0]!, ids[1]!, "no id at all", ids[2]!], signal));
    assert.deepEqual(
      got.map((one) => ("raw" in one ? "raw" : one.problem === "gone" ? "gone" : one.problem.code)),
      ["raw", "gone", "message", "raw"],
    );
  });

  test("what concerns the mailbox ends the request: it is no fault of a message", async () => {
    const ids = await server.appendMany("a@example.com", "inbox", [numbered(7)]);
    server.faults.once("GetItem", { responseCode: "ErrorMailboxStoreUnavailable" });
    await assert.rejects(() => all(mimeOf(session, ids, signal)), isProblem("unavailable", "later"));
    server.faults.once("GetItem", { responseCode: "ErrorServerBusy", backOffMs: 2000 });
    await assert.rejects(() => all(mimeOf(session, ids, signal)), isProblem("throttled"));
  });

  test("a message that the server cannot give as a whole is put together from its parts, always the same way", async () => {
    const file = Buffer.from(Array.from({ length: 200_000 }, (_, at) => (at * 7) % 256));
    const attachments = [
      { filename: "Bericht – März.pdf", type: "application/pdf", content: file },
      { filename: "logo.png", type: "image/png", content: Buffer.from([1, 2, 3]), cid: "logo@example.com" },
    ];
    const subject = "Größe – " + "long ".repeat(300);
    const raw = message({ subject, from: "Jörg <j@example.com>", html: "<p>Grüße</p>", attachments });
    const id = await server.append("a@example.com", "inbox", raw, { isRead: true });
    const got = [];
    for (const code of ["ErrorMimeContentConversionFailed", "ErrorMessageSizeExceeded"]) {
      server.faults.once("GetItem", { responseCode: code });
      got.push(...(await all(mimeOf(session, [id], signal))));
    }
    const [one, two] = got;
    assert.ok(one && two && "raw" in one && "raw" in two);
    assert.deepEqual(one.flags, ["\\Seen"]);
    assert.deepEqual(Buffer.from(one.raw), Buffer.from(two.raw));
    const [was, is] = [await PostalMime.parse(raw), await PostalMime.parse(one.raw)];
    const told = ({ subject: about, from, to, date, messageId, html }: typeof was) => ({
      about: about?.trim(),
      from,
      to,
      date,
      messageId,
      html: html?.trim(),
    });
    assert.deepEqual(told(is), told(was));
    const filesOf = (letter: typeof was) =>
      letter.attachments.map(({ filename, mimeType, contentId, content }) => ({
        filename,
        mimeType,
        contentId,
        content: Buffer.from(content as ArrayBuffer),
      }));
    assert.deepEqual(filesOf(is), filesOf(was));
    assert.ok(
      Buffer.from(one.raw)
        .toString("latin1")
        .split("\r\n")
        .every((line) => line.length <= 998),
    );
  });

  test("parts that cannot be had either are a Problem of that message alone", async () => {
    const ids = await server.appendMany("a@example.com", "inbox", [numbered(20)]);
    server.faults.once("GetItem", { responseCode: "ErrorMimeContentConversionFailed" }, { times: 2 });
    const [got] = await all(mimeOf(session, ids, signal));
    assert.ok(got && "problem" in got && isProblem("message")(got.problem));
    server.faults.once("GetItem", { responseCode: "ErrorMimeContentConversionFailed" });
    server.faults.once("GetItem", { responseCode: "ErrorServerBusy" });
    await assert.rejects(() => all(mimeOf(session, ids, signal)), isProblem("throttled"));
  });

  test("an answer that is cut gives the messages that are whole, then a Problem", async () => {
    const ids = await server.appendMany("a@example.com", "inbox", [
      numbered(8),
      "Subject: large\r\n\r\n".padEnd(200_000, "x"),
    ]);
    server.faults.once("GetItem", { cut: 50_000 });
    const got: string[] = [];
    const read = async () => {
      for await (const one of mimeOf(session, ids, signal)) got.push(one.id);
    };
    await assert.rejects(read, isProblem("connect"));
    assert.deepEqual(got, [ids[0]]);
  });

  test("a message of 60 MB is in memory as bytes, not as text", async () => {
    const large = await startExchange();
    const user = "b@example.com";
    await large.addUser(user, PASSWORD);
    const raw = Buffer.alloc(60 * 1024 * 1024, "0123456789abcdef\r\n");
    const id = await large.append(user, "inbox", raw);
    const its = await openEws(exchangeDeps(), mailboxAt(large, user, {}), signal);
    const [got] = await all(mimeOf(its, [id], signal));
    assert.ok(got && "raw" in got && Buffer.compare(got.raw, raw) === 0);
    await its.close();
    await large.stop();
  });
});
