/** The copy of a sent message in the Sent folder: one, whoever puts it there. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { getSendTarget } from "../shared/mail/sending.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { vault } from "../shared/store/vault.ts";
import type { ReadMail } from "../worker/mail/reader-pool.ts";
import { copyToSent } from "../worker/tasks/copy-to-sent.ts";
import { PASSWORD } from "./bodies.ts";
import { depsFor, mailboxOn } from "./promises/mailbox-rig.ts";
import { sendingOf } from "./promises/outboxes.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { outgoing } from "./stories/outgoing.ts";

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
      await copyToSent(
        { store, readers, emit: () => undefined },
        { version: 1, kind: "copy", mailbox: mailbox.id, sending: id },
        signal,
      );
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
  } finally {
    await server.stop();
    await store.close();
  }
});
