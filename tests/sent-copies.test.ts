/** The copy of a sent message in the Sent folder: one, whoever puts it there. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ImapFlow } from "imapflow";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { getSendTarget } from "../shared/mail/sending.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { vault } from "../shared/store/vault.ts";
import { backoffs } from "../shared/time.ts";
import type { ReadMail } from "../worker/mail/reader-pool.ts";
import { copyToSent } from "../worker/tasks/copy-to-sent.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, mailboxOn } from "./promises/mailbox-rig.ts";
import { sendingOf } from "./promises/outboxes.ts";
import type { Dovecot } from "./servers/dovecot.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { numbered } from "./servers/mail.ts";
import { dovecotOrSkip } from "./servers/provide.ts";
import { startSmtpScript } from "./servers/smtp-script.ts";
import { outgoing } from "./stories/outgoing.ts";
import { loginAgain, sceneWith } from "./stories/scene.ts";

test("a provider that puts its own copy there some time later leaves one copy, and so does one that puts none", async () => {
  const s = await outgoing({ BACKOFF_SCALE: "0.1" });
  try {
    const { id, user } = await s.sender({ saveSent: "auto" }, { listening: true });
    let filing = true;
    const filed: Promise<unknown>[] = [];
    s.smtp.play(({ step, line }) => {
      if (step !== "end" || !filing) return undefined;
      const copy = Buffer.from(`Received: from client by provider\r\n${line}`, "latin1");
      filed.push(new Promise((resolve) => setTimeout(resolve, 500)).then(() => s.mail.append(user, "Sent", copy)));
      return undefined;
    });
    const done: string[] = [];
    for (const subject of ["one", "two"]) done.push((await s.send(id, { subject }, { wait: 30 })).body.id);
    await Promise.all(filed);
    filing = false;
    done.push((await s.send(id, { subject: "three" }, { wait: 30 })).body.id);
    await s.service.until("the copy of the last", async () => (await s.mail.count(user, "Sent")) >= 3);
    // The bytes of a message go when no copy of it remains to be made.
    for (const message of done)
      await s.service.until(`the copy of ${message} to be settled`, async () => {
        const { status } = await s.service.call("GET", `/api/v1/messages/${message}/raw`);
        return status === 404;
      });
    assert.equal(await s.mail.count(user, "Sent"), 3);
  } finally {
    await s.end();
  }
});

const raw = (id: string) => Buffer.from(`Message-ID: <${id}@example.com>\r\nSubject: x\r\n\r\nx\r\n`);

test("a server that was seen to file is remembered, until it does not; settings that changed meanwhile stay", async () => {
  const key = { id: "k1", key: generateEncryptionKey() };
  const store = await sqliteStore({ path: ":memory:", vault: vault([key]), windowDays: 7, spoolBytes: 1e9 });
  const server = await startImapServer({ tls: null });
  const { signal } = new AbortController();
  try {
    await server.addUser("anna", PASSWORD);
    const send = { host: "smtp.example.com", saveSent: "auto", perHour: 9, notify: false, allowSelf: false } as const;
    const mailbox = await store.mailboxes.put({ ...mailboxOn(server, "anna"), send, revision: 0 });
    const looks: boolean[] = [];
    const copy = async (id: string) => {
      const sending = sendingOf(id, { mailbox: mailbox.id, copy: "wanted", state: "sent" });
      await store.outbox.accept(sending, raw(id), 100);
      const connection = openMailbox.imap(depsFor(), mailbox);
      const use = async <T>(_: Mailbox, _bytes: number, work: ReadMail<T>) => {
        const result = await work(connection, () => undefined);
        const current = (await store.mailboxes.get(mailbox.id))?.mailbox;
        assert.ok(current?.send);
        const changed = { ...current.send, perHour: 10 };
        await store.mailboxes.amend(current, (stored) => ({ ...stored, send: changed }));
        return result;
      };
      const readers = { use, run: () => Promise.resolve(), count: () => 0 };
      const deps = { store, readers, emit: () => undefined, backoff: backoffs(0) };
      const task = { version: 1, kind: "copy", mailbox: mailbox.id, sending: id } as const;
      const outcome = await copyToSent(deps, task, signal);
      looks.push(outcome.kind === "again");
      if (outcome.kind === "again" && outcome.task.kind === "copy")
        assert.deepEqual(await copyToSent(deps, outcome.task, signal), { kind: "done" });
      await connection.close();
      return (await store.mailboxes.get(mailbox.id))?.mailbox;
    };
    assert.equal((await copy("a"))?.sentFiledBy, undefined);
    assert.equal(await server.count("anna", "Sent"), 1);
    await server.append("anna", "Sent", raw("b"));
    const after = await copy("b");
    assert.equal(after?.sentFiledBy, getSendTarget(mailbox));
    assert.equal(after.send?.perHour, 10);
    assert.equal(await server.count("anna", "Sent"), 2);
    assert.equal((await copy("c"))?.sentFiledBy, undefined);
    assert.equal(await server.count("anna", "Sent"), 3);
    const last = await copy("d");
    assert.equal(last?.sentNotFiledBy?.server, getSendTarget(mailbox));
    assert.deepEqual(looks, [true, false, true, false], "who is known to file none is not looked at again");
  } finally {
    await server.stop();
    await store.close();
  }
});

type Filing = (server: Dovecot, user: string) => Promise<unknown>;

const filed = (sent: Buffer) => Buffer.concat([Buffer.from("Received: from client by provider\r\n"), sent]);
const append = (copy: Buffer) => (server: Dovecot, user: string) => server.append(user, "Sent", copy);

async function flagFirst(server: Dovecot, user: string): Promise<void> {
  const { host, imapPort: port } = server;
  const auth = { user, pass: PASSWORD };
  const client = new ImapFlow({ host, port, secure: false, doSTARTTLS: false, auth, logger: false });
  await client.connect();
  await client.mailboxOpen("Sent");
  await client.messageFlagsAdd("1", ["\\Flagged"], { uid: true });
  await client.logout();
}

describe("a provider that puts its own copy into Sent after the service has put one there", () => {
  const DAY = new Date("2026-05-01T10:00:00Z");
  const original = numbered(1, {
    messageId: "<late@example.com>",
    date: DAY,
    headers: { "X-Long": "one\r\n two   three" },
  });

  /** Appends as a worker does, lets the provider do its part, and looks again. */
  async function lookAgain(server: Dovecot, user: string, file: Filing) {
    await server.addUser(user, PASSWORD);
    await server.createFolder(user, "Sent");
    const mail = openMailbox.imap(depsFor(), mailboxOn(server, user));
    const { signal } = new AbortController();
    try {
      const message = { raw: original, messageIds: ["<late@example.com>"], flags: ["\\Seen"], date: DAY };
      const placed = await mail.append?.("Sent", message, signal);
      assert.ok(typeof placed === "object" && placed.uid === 1, JSON.stringify(placed));
      assert.equal(await mail.append?.("Sent", message, signal), false);
      await file(server, user);
      return await mail.checkCopy?.(placed, signal);
    } finally {
      await mail.close();
    }
  }

  const CASES: Record<string, { file: Filing; verdict: string; left: number[] }> = {
    "ours goes when the provider's has all that it has": {
      file: append(filed(original)),
      verdict: "removed",
      left: [2],
    },
    "ours stays alone when nobody files": { file: async () => undefined, verdict: "alone", left: [1] },
    "both stay when the other has another body": {
      file: append(numbered(1, { messageId: "<late@example.com>", date: DAY, text: "Shorter." })),
      verdict: "kept",
      left: [1, 2],
    },
    "both stay when the other lacks a field of ours": {
      file: append(numbered(1, { messageId: "<late@example.com>", date: DAY })),
      verdict: "kept",
      left: [1, 2],
    },
    "both stay when a person has marked ours": {
      file: async (server, user) => {
        await flagFirst(server, user);
        await server.append(user, "Sent", filed(original));
      },
      verdict: "kept",
      left: [1, 2],
    },
    "nothing is touched when a person has deleted ours": {
      file: async (server, user) => {
        await server.append(user, "Sent", filed(original));
        await server.expunge(user, "Sent", 1);
      },
      verdict: "kept",
      left: [2],
    },
  };
  test("ours goes only where nothing is lost by it", async (context) => {
    const server = await dovecotOrSkip(context);
    if (!server) return;
    for (const [index, [name, { file, verdict, left }]] of Object.entries(CASES).entries()) {
      const user = `ann${index}`;
      assert.equal(await lookAgain(server, user, file), verdict, name);
      assert.deepEqual([...(await server.flags(user, "Sent")).keys()], left, name);
    }
  });

  test("leaves one copy of the first message, and no second one of the next, over a real Dovecot", async (context) => {
    const mail = await dovecotOrSkip(context);
    if (!mail) return;
    const s = await sceneWith(mail, { BACKOFF_SCALE: "0.006" });
    const smtp = await startSmtpScript();
    try {
      const { id, user } = await s.mailbox();
      const sent = { host: "127.0.0.1", port: smtp.port, tls: "none" };
      await s.service.call("PATCH", `/api/v1/mailboxes/${id}`, { receive: loginAgain(user), send: sent });
      const send = async (subject: string) => {
        const body = { to: ["bob@example.net"], subject, text: "Hello" };
        const answer = await s.service.call("POST", `/api/v1/mailboxes/${id}/messages?wait=25`, body);
        assert.equal(answer.body.state, "sent");
        return { sending: answer.body.id, raw: filed(Buffer.from(smtp.taken.at(-1)?.raw ?? "", "latin1")) };
      };
      const first = await send("first");
      await s.service.until("our copy", async () => (await mail.count(user, "Sent").catch(() => 0)) === 1);
      await mail.append(user, "Sent", first.raw);
      await s.service.until("one copy, the provider's", async () => {
        const uids = [...(await mail.flags(user, "Sent")).keys()];
        return uids.length === 1 && uids[0] === 2;
      });
      const second = await send("second");
      await mail.append(user, "Sent", second.raw);
      await s.service.until("no copy to remain to be made", async () => {
        const { status: code } = await s.service.call("GET", `/api/v1/messages/${second.sending}/raw`);
        return code === 404;
      });
      assert.deepEqual([...(await mail.flags(user, "Sent")).keys()], [2, 3]);
    } finally {
      await s.end();
      await smtp.stop();
    }
  });
});
