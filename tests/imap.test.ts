/** IMAP against a server that misbehaves: missing capabilities, deaf and silent connections, refusals, broken downloads. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import { openMailbox } from "../shared/mail/open.ts";
import type { FactBody } from "../shared/telemetry/events.ts";
import { PASSWORD } from "./bodies.ts";
import { all, depsFor, isProblem, mailboxOn, watchOn, type Watch, type Wish } from "./promises/mailbox-rig.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";
import { numbered } from "./servers/mail.ts";

const { signal } = new AbortController();
const DAY = 24 * 3_600_000;

describe("An IMAP connection", () => {
  let server: ImapServer;
  let users = 0;
  const open: Watch[] = [];
  before(async () => {
    server = await startImapServer();
  });
  afterEach(async () => {
    server.faults.clear();
    for (const watch of open.splice(0)) await watch.stop();
    Object.assign(server.capabilities, { idle: true, starttls: true, oauthbearer: true, xoauth2: true, uidplus: true });
  });
  after(() => server.stop());
  const someone = async () => {
    const user = `user${++users}`;
    await server.addUser(user, PASSWORD);
    return user;
  };
  const watching = (user: string, wish: Wish = {}, deps = depsFor()) => {
    const watch = watchOn(mailboxOn(server, user, wish), deps);
    open.push(watch);
    return watch;
  };
  const plain = () => ({ tls: "none", port: server.imapPort }) as const;

  describe("hears:", () => {
    test("by polling where the server has no IDLE, or refuses it, or polling is wanted", async () => {
      const wishes: [Wish, () => void][] = [
        [{}, () => (server.capabilities.idle = false)],
        [{}, () => void server.faults.onCommand("IDLE", { reply: "NO not now" })],
        [{ mode: "poll", poll: { everySeconds: 0.1 } }, () => undefined],
      ];
      for (const [wish, spoil] of wishes) {
        spoil();
        const user = await someone();
        const watch = watching(user, wish, depsFor({ folderPollMs: 100 }));
        await watch.connected();
        await server.append(user, "INBOX", numbered(1));
        await watch.until(1);
        server.faults.clear();
        server.capabilities.idle = true;
      }
    });

    test("by its probe where the server does not notify", async () => {
      server.faults.deaf = true;
      const user = await someone();
      const watch = watching(user, {}, depsFor({ probeMs: 200 }));
      await watch.connected();
      await server.append(user, "INBOX", numbered(1));
      await watch.until(1);
    });

    test("or says that it is deaf, soon after the server stopped to answer", async () => {
      const watch = watching(
        await someone(),
        {},
        depsFor({ timeouts: { command: 300 }, probeMs: 300, folderPollMs: 100 }),
      );
      await watch.connected();
      server.faults.onCommand("*", { hang: true });
      assert.ok(isProblem("connection_stale", "later")(await watch.ended()));
      assert.equal(watch.connection.open, false);
    });

    test("of what the server mentions in passing while older mail is still being handed over", async () => {
      const user = await someone();
      await server.append(user, "INBOX", numbered(1));
      const mailbox = mailboxOn(server, user, { since: "2001-01-01" });
      const connection = openMailbox.imap(depsFor({ probeMs: 3_600_000 }), mailbox);
      const uids: number[] = [];
      for await (const { messages } of connection.watch([], () => undefined, signal)) {
        uids.push(...messages.map(({ uid }) => uid));
        if (uids.length === 2) break;
        await server.append(user, "INBOX", numbered(2));
        // A worker borrows the connection: the answer to its FETCH brings the EXISTS, and no IDLE will repeat that.
        await all(connection.fetch(messages, signal));
      }
      await connection.close();
      assert.deepEqual(uids, [1, 2]);
    });

    test("again in the first folder after a download in another", async () => {
      const user = await someone();
      await server.createFolder(user, "Other");
      await server.append(user, "Other", numbered(1));
      const watch = watching(
        user,
        { folders: ["INBOX", "Other"], since: "2001-01-01" },
        depsFor({ folderPollMs: 60_000 }),
      );
      const refs = await watch.until(1);
      await watch.connected();
      await all(watch.connection.fetch(refs, signal));
      await server.append(user, "INBOX", numbered(2));
      await watch.until(2);
      assert.equal(server.connections, 1, "all of it over one connection");
    });

    test("of very many at once: it looks for their numbers first, and lists them in portions", async () => {
      const user = await someone();
      const watch = watching(user);
      await watch.connected();
      const told = server.commands.length;
      await server.appendMany(
        user,
        "INBOX",
        Array.from({ length: 1_100 }, (_, n) => numbered(n)),
      );
      await watch.until(1_100);
      const lines = server.commands.slice(told).flatMap((one) => (one.user === user ? [one.line] : []));
      const asked = lines.filter((line) => /(SEARCH|FETCH) /.test(line));
      assert.match(asked[0] ?? "", /SEARCH .*1:\*/);
      assert.match(asked[1] ?? "", /FETCH 1:500 /);
    });

    test("of a folder renumbered while it is watched, and hands over only what is newer", async () => {
      const user = await someone();
      await server.append(user, "INBOX", numbered(1));
      const [old] = server.messages(user, "INBOX");
      if (old) Object.assign(old, { internalDate: new Date(Date.now() - 3 * DAY) });
      const facts: FactBody[] = [];
      const deps = depsFor({ probeMs: 200, emit: (fact) => void facts.push(fact) });
      const watch = watching(user, { since: "2001-01-01" }, deps);
      await server.append(user, "INBOX", numbered(2));
      await watch.until(2);
      await watch.stop();
      const epoch = String(await server.changeUidValidity(user, "INBOX"));
      const again = watchOn(mailboxOn(server, user, { since: "2001-01-01" }), deps, watch.cursors());
      open.push(again);
      await again.connected();
      assert.deepEqual(
        again.messages().map((one) => one.epoch),
        [epoch],
        "the one of three days ago is not repeated",
      );
      assert.deepEqual(
        facts.filter((fact) => fact.kind === "mailbox.reset").map((fact) => "epoch" in fact && fact.epoch),
        [epoch],
      );
    });
  });

  describe("fails with the right Problem:", () => {
    const CASES: [string, () => void, string, string | undefined][] = [
      ["silence during login", () => server.faults.onCommand("ID", { hang: true }), "timeout", "later"],
      ["a closed door", () => (server.faults.dropAfterConnect = true), "connect", "later"],
      ["BYE at once", () => (server.faults.greeting = "BYE Too many connections"), "too_many_connections", "later"],
      [
        "too many connections, said as a failed login",
        () =>
          server.faults.onCommand("AUTHENTICATE", { reply: "NO [ALERT] Too many simultaneous connections. (Failure)" }),
        "too_many_connections",
        "later",
      ],
      [
        "an unknown refusal of the login",
        () => server.faults.onCommand("AUTHENTICATE", { reply: "NO for reasons" }),
        "unavailable",
        "later",
      ],
      [
        "BYE in the middle",
        () => server.faults.onCommand("SELECT", { bye: "Account exceeded command or bandwidth limits." }),
        "throttled",
        undefined,
      ],
      [
        "throttling",
        () =>
          server.faults.onCommand("SELECT", {
            reply: "BAD Request is throttled. Suggested Backoff Time: 299961 milliseconds",
          }),
        "throttled",
        undefined,
      ],
      ["a cut answer", () => server.faults.onCommand("SELECT", { cutAfter: 20 }), "connect", "later"],
      [
        "no folder that opens for now",
        () => server.faults.onCommand("SELECT", { reply: "NO [UNAVAILABLE] The backend is away" }),
        "folder",
        "later",
      ],
      [
        "a refused session, which is no wrong password",
        () => server.faults.onCommand("SELECT", { reply: "NO [AUTHENTICATIONFAILED] Not your mailbox" }),
        "folder",
        "later",
      ],
    ];
    for (const [name, spoil, code, retry] of CASES) {
      test(name, async () => {
        const user = await someone();
        spoil();
        const error = await watching(user, {}, depsFor({ timeouts: { command: 500 } })).ended();
        assert.ok(error instanceof Problem);
        assert.equal(error.code, code, String(error));
        if (retry !== undefined) assert.equal(error.retry, retry);
        else assert.ok(error.retry instanceof Date);
      });
    }
  });

  test("a session in which no folder opens any more ends, with the words of the server", async () => {
    const watch = watching(await someone(), {}, depsFor({ folderPollMs: 20, probeMs: 50 }));
    await watch.connected();
    server.faults.onCommand("SELECT", { reply: "NO [SERVERBUG] Internal error" });
    const error = await watch.ended();
    assert.ok(error instanceof Problem);
    assert.match(`${error.message} ${error.fix}`, /does not open the folder "INBOX".*It is tried again/);
    assert.equal(error.evidence, "[SERVERBUG] Internal error");
  });

  describe("downloads", () => {
    test("all but the message that the server does not give", async () => {
      const user = await someone();
      const uids = await server.appendMany(user, "INBOX", [numbered(1), numbered(2), numbered(3)]);
      const mail = openMailbox.imap(depsFor(), mailboxOn(server, user));
      const refs = await everything(mail);
      server.faults.rejectMessage(uids[1] ?? 0);
      const got = await all(mail.fetch(refs, signal));
      assert.deepEqual(
        got.map((one) => ("raw" in one ? "raw" : one.problem.code)),
        ["raw", "message", "raw"],
      );
      await mail.close();
    });

    test("and reports a connection that breaks in the middle, then connects anew", async () => {
      const user = await someone();
      await server.appendMany(user, "INBOX", [numbered(1), numbered(2)]);
      const mail = openMailbox.imap(depsFor(), mailboxOn(server, user));
      const refs = await everything(mail);
      server.faults.onCommand("FETCH", { cutAfter: 100, times: 1 });
      await assert.rejects(all(mail.fetch(refs, signal)), isProblem("connect", "later"));
      assert.equal((await all(mail.fetch(refs, signal))).length, 2);
      await mail.close();
      await assert.rejects(all(mail.fetch(refs, signal)), isProblem("connect"));
    });

    test("without UIDPLUS nobody else's deleted messages are expunged", async () => {
      server.capabilities.uidplus = false;
      const user = await someone();
      const uids = await server.appendMany(user, "INBOX", [numbered(1), numbered(2)]);
      await server.setFlags(user, "INBOX", uids[0] ?? 0, ["\\Deleted"]);
      const mail = openMailbox.imap(depsFor(), mailboxOn(server, user));
      const refs = await everything(mail);
      await mail.applyAfterDelivery(refs.slice(1), "delete", signal);
      assert.equal(await server.count(user, "INBOX"), 2);
      assert.deepEqual((await server.flags(user, "INBOX")).get(uids[1] ?? 0), ["\\Deleted"]);
      await mail.close();
    });
  });

  describe("logs in by OAuth2,", () => {
    for (const [mechanism, off] of [
      ["OAUTHBEARER", "xoauth2"],
      ["XOAUTH2", "oauthbearer"],
    ] as const) {
      test(`${mechanism}, and tries a new token once when the server refuses the old one`, async () => {
        server.capabilities[off] = false;
        const user = await someone();
        await server.addToken(user, "fresh");
        const given = ["stale", "fresh"];
        const tokens = {
          access: () => Promise.resolve(new Secret(given[0] ?? "")),
          forget: () => void given.shift(),
          endOf: () => undefined,
        };
        const oauth2 = { tokenUrl: "http://127.0.0.1:1/", clientId: "us" };
        const watch = () => watching(user, { auth: { user, oauth2 } }, depsFor({ tokens }));
        await watch().connected();
        assert.deepEqual(given, ["fresh"]);
        given.splice(0, 1, "stale", "stale too", "fresh");
        assert.ok(isProblem("auth", "later")(await watch().ended()));
        assert.deepEqual(given, ["stale too", "fresh"], "one new token is tried, not one after the other");
      });
    }

    test("unless the server has no way for it", async () => {
      Object.assign(server.capabilities, { oauthbearer: false, xoauth2: false });
      const user = await someone();
      const error = await watching(user, { auth: { user, accessToken: new Secret("t") } }).ended();
      assert.ok(isProblem("auth_method", "never")(error), String(error));
    });
  });

  test("over a plain connection works where the mailbox says so", async () => {
    await watching(await someone(), plain()).connected();
  });
});

async function everything(mail: ReturnType<typeof openMailbox.imap>) {
  return (await all(mail.listSince(new Date(0), [], signal))).flat();
}
