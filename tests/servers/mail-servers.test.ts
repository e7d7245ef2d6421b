/** Proves the mail servers: all of them in the same way by a real client, and our own one in all that it does wrong. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ImapFlow, type ImapFlowOptions } from "imapflow";
import type { Capabilities } from "./imap/capabilities.ts";
import type { Fault } from "./imap/faults.ts";
import { type ImapServer, startImapServer } from "./imap/server.ts";
import { message, numbered } from "./mail.ts";
import type { MailServer } from "./mail-server.ts";
import { dovecotOrSkip, greenMailOrSkip, type TestContext } from "./provide.ts";
import { eventually } from "./waiting.ts";

const USERS = { ann: "secret" };

const SERVERS: Record<string, (context: TestContext) => Promise<MailServer | undefined>> = {
  "the in-process server": async (context) => {
    const server = await startImapServer({ users: USERS });
    context.after(server.stop);
    return server;
  },
  Dovecot: (context) => dovecotOrSkip(context, { users: USERS }),
  GreenMail: (context) => greenMailOrSkip(context, { users: USERS }),
};

for (const [name, start] of Object.entries(SERVERS)) {
  test(`${name} shows a client what is appended, changed and removed`, { timeout: 120_000 }, async (t) => {
    const server = await start(t);
    if (!server) return;
    const client = await loggedIn(server, t);
    assert.equal(await server.append("ann", "INBOX", message({ subject: "first" })), 1);
    const box = await client.mailboxOpen("INBOX");
    assert.equal(box.exists, 1);
    const told = new Promise((resolve) => client.once("exists", ({ count }) => resolve(count)));
    void client.idle().catch(() => undefined);
    await sleep(100);
    await server.append("ann", "INBOX", message({ subject: "second" }));
    assert.equal(await told, 2);
    const uids = await server.appendMany(
      "ann",
      "INBOX",
      Array.from({ length: 500 }, (_, index) => numbered(index)),
    );
    assert.deepEqual([uids.length, uids[0], uids.at(-1)], [500, 3, 502]);
    await eventually(() => client.mailbox && client.mailbox.exists === 502, "the client to know of all messages");
    await client.messageFlagsAdd("3", ["\\Seen"], { uid: true });
    assert.deepEqual((await server.flags("ann", "INBOX")).get(3), ["\\Seen"]);
    await server.expunge("ann", "INBOX", 1);
    assert.equal(await server.count("ann", "INBOX"), 501);
    const found = await client.fetchOne("3", { source: true }, { uid: true });
    assert.match(String(found && found.source), /^Subject: Message 0\r$/m);
  });

  test(`${name} changes a UIDVALIDITY, throws clients out and comes back`, { timeout: 120_000 }, async (t) => {
    const server = await start(t);
    if (!server) return;
    await server.createFolder("ann", "Größe");
    await server.appendMany("ann", "Größe", [message(), message()]);
    const client = await loggedIn(server, t);
    const before = await client.status("Größe", { uidValidity: true });
    const changed = await server.changeUidValidity("ann", "Größe");
    assert.notEqual(BigInt(changed), before && before.uidValidity);
    assert.equal(await server.count("ann", "Größe"), 2);
    await server.disconnectAll();
    await eventually(() => !client.usable, "the end of the connection");
    await server.stop();
    await assert.rejects(loggedIn(server, t));
    await server.start();
    await loggedIn(server, t);
  });
}

test("the in-process server lets in by password and token, with and without SASL-IR and STARTTLS", async (t) => {
  const server = await own(t);
  await server.addToken("ann", "token");
  const token = { user: "ann", accessToken: "token" };
  for (const saslIr of [true, false]) {
    for (const oauthbearer of [true, false]) {
      Object.assign(server.capabilities, { saslIr, oauthbearer });
      await loggedIn(server, t, { auth: token });
      await loggedIn(server, t, { port: server.imapPort, secure: false });
    }
  }
  for (const loginMethod of ["LOGIN", "AUTH=PLAIN", "AUTH=LOGIN"]) {
    await loggedIn(server, t, { auth: { user: "ann", pass: "secret", loginMethod } });
  }
  await assert.rejects(loggedIn(server, t, { auth: { user: "ann", pass: "wrong" } }), { authenticationFailed: true });
  await assert.rejects(loggedIn(server, t, { auth: { ...token, accessToken: "old" } }), { authenticationFailed: true });
  assert.equal(server.logins.filter((login) => !login.ok).length, 2);
  assert.doesNotMatch(JSON.stringify(server.commands), /secret|wrong|token/);
});

test("capabilities can be switched off one by one", async (t) => {
  const server = await own(t, { idle: false, uidplus: false, move: false, condstore: false, specialUse: false });
  const client = await loggedIn(server, t);
  for (const name of ["IDLE", "UIDPLUS", "MOVE", "CONDSTORE", "SPECIAL-USE"]) assert.ok(!client.capabilities.has(name));
  await server.append("ann", "INBOX", message());
  await client.mailboxOpen("INBOX");
  await client.messageMove("1", "Trash");
  assert.deepEqual([await server.count("ann", "INBOX"), await server.count("ann", "Trash")], [0, 1]);
});

test("faults on command: a refusal, a goodbye, a dropped and a hanging connection, an answer cut off", async (t) => {
  const server = await own(t);
  const text = "NO [ALERT] Too many simultaneous connections. (Failure)";
  server.faults.onCommand("AUTHENTICATE", { reply: text, times: 1 });
  await assert.rejects(loggedIn(server, t), { responseText: "Too many simultaneous connections. (Failure)" });
  await server.appendMany("ann", "INBOX", [message(), message({ bytes: 50_000 }), message()]);
  const ends: Fault[] = [{ bye: "Account exceeded command or bandwidth limits." }, { drop: true }, { cutAfter: 9000 }];
  for (const fault of ends) {
    const client = await loggedIn(server, t);
    await client.mailboxOpen("INBOX");
    const over = server.faults.onCommand("FETCH", fault);
    await assert.rejects(client.fetchAll("1:*", { source: true }), JSON.stringify(fault));
    over();
  }
  const client = await loggedIn(server, t);
  server.faults.onCommand("NOOP", { hang: true });
  assert.equal(await Promise.race([client.noop(), sleep(200, "silence")]), "silence");
  server.faults.clear();
  server.faults.onCommand("*", { delayMs: 100, times: 1 });
  const slow = await loggedIn(server, t);
  assert.ok(slow.usable);
});

test("a message that cannot be read spoils only itself", async (t) => {
  const server = await own(t);
  await server.appendMany("ann", "INBOX", [message(), message(), message()]);
  server.faults.rejectMessage(2);
  const client = await loggedIn(server, t);
  await client.mailboxOpen("INBOX");
  const uids: number[] = [];
  const all = async (): Promise<void> => {
    for await (const one of client.fetch("1:*", { source: true })) uids.push(one.uid);
  };
  await assert.rejects(all(), { responseText: "Message 2 cannot be read" });
  assert.deepEqual(uids, [1, 3]);
  assert.equal((await client.fetchAll("1:*", { flags: true })).length, 3);
});

test("a deaf server accepts IDLE and tells nothing, but SELECT shows all", async (t) => {
  const server = await own(t);
  server.faults.deaf = true;
  const client = await loggedIn(server, t);
  await client.mailboxOpen("INBOX");
  let told = false;
  client.on("exists", () => (told = true));
  void client.idle().catch(() => undefined);
  await sleep(50);
  await server.append("ann", "INBOX", message());
  await sleep(150);
  assert.equal(told, false);
  assert.equal((await (await loggedIn(server, t)).mailboxOpen("INBOX")).exists, 1);
});

test("greetings, dropped connections, plain text behind STARTTLS and too many connections", async (t) => {
  const server = await own(t);
  server.faults.greeting = "BYE Too many connections from your host";
  assert.match(await talk(server.imapPort, ""), /^\* BYE Too many connections from your host\r\n closed$/);
  server.faults.greeting = undefined;
  server.faults.dropAfterConnect = true;
  assert.equal(await talk(server.imapPort, ""), " closed");
  server.faults.dropAfterConnect = false;
  server.faults.sendAfterStartTls = "* CAPABILITY IMAP4rev1 INJECTED\r\n";
  assert.match(await talk(server.imapPort, "a STARTTLS\r\n"), /a OK .*\r\n\* CAPABILITY IMAP4rev1 INJECTED\r\n/);
  const narrow = await startImapServer({ users: USERS, maxConnectionsPerUser: 1 });
  t.after(narrow.stop);
  await loggedIn(narrow, t);
  await assert.rejects(loggedIn(narrow, t), { responseText: /Too many simultaneous/ });
});

test("thousands of messages and hundreds of listeners are served quickly", { timeout: 60_000 }, async (t) => {
  const server = await own(t);
  await server.appendMany(
    "ann",
    "INBOX",
    Array.from({ length: 5000 }, (_, index) => numbered(index)),
  );
  const client = await loggedIn(server, t);
  await client.mailboxOpen("INBOX");
  const before = performance.now();
  const all = await client.fetchAll("1:*", { uid: true, source: true });
  assert.equal(all.length, 5000);
  assert.ok(performance.now() - before < 10_000);
});

async function own(context: TestContext, capabilities: Partial<Capabilities> = {}): Promise<ImapServer> {
  const server = await startImapServer({ users: USERS, capabilities });
  context.after(server.stop);
  return server;
}

async function loggedIn(
  server: MailServer,
  context: TestContext,
  options: Partial<ImapFlowOptions> = {},
): Promise<ImapFlow> {
  const client = new ImapFlow({
    host: "localhost",
    port: server.imapsPort,
    secure: true,
    auth: { user: "ann", pass: "secret" },
    tls: server.ca === undefined ? {} : { ca: server.ca },
    logger: false,
    ...options,
  });
  client.on("error", () => undefined);
  context.after(async () => client.close());
  await client.connect();
  return client;
}

// Says something in plain text and resolves with what is heard within 200 ms.
function talk(port: number, text: string): Promise<string> {
  return new Promise((resolve) => {
    let heard = "";
    const socket = connect(port, "127.0.0.1", () => socket.write(text));
    const end = (how: string): void => {
      clearTimeout(timer);
      socket.destroy();
      resolve(`${heard} ${how}`);
    };
    const timer = setTimeout(() => end("open"), 200);
    socket.on("data", (chunk) => (heard += String(chunk)));
    socket.on("close", () => end("closed"));
    socket.on("error", () => undefined);
  });
}
