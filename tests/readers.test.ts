/** Connections that workers keep for the next task: what they give although they are old. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { depsFor, mailboxOn, PASSWORD } from "./promises/mailbox-rig.ts";
import { startImapServer } from "./servers/imap/server.ts";
import { message } from "./servers/mail.ts";
import type { MailServer } from "./servers/mail-server.ts";
import { dovecotOrSkip } from "./servers/provide.ts";

const never = new AbortController().signal;

async function all<T>(rows: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const row of rows) list.push(row);
  return list;
}

/** A message that came after the connection had selected its folder: it is downloaded, found and tidied all the same. */
async function seesWhatCameSince(server: MailServer): Promise<void> {
  await server.addUser("kept", PASSWORD);
  const mailbox: Mailbox = mailboxOn(server, "kept");
  const [one, two] = [openMailbox.imap(depsFor(), mailbox), openMailbox.imap(depsFor(), mailbox)];
  const send = (n: number) => server.append("kept", "INBOX", message({ subject: `mail ${n}` }));
  try {
    await send(1);
    const [first = []] = await all(one.since(new Date(0), [], never));
    assert.equal((await all(two.fetch(first, never))).length, 1);
    const uid = await send(2);
    const [both = []] = await all(one.since(new Date(0), [], never));
    assert.equal(both.length, 2, "found");
    const late = both.filter((ref) => ref.uid === uid);
    const [got] = await all(two.fetch(late, never));
    assert.ok(got && "raw" in got, "downloaded");
    const third = await send(3);
    await two.tidy([{ ...late[0]!, uid: third }], "markRead", never);
    assert.ok((await server.flags("kept", "INBOX")).get(third)?.includes("\\Seen"), "tidied");
  } finally {
    await one.close();
    await two.close();
  }
}

describe("a connection that has had the folder open for a while", () => {
  test("gives what came since, in process", async () => {
    const server = await startImapServer();
    await seesWhatCameSince(server).finally(() => server.stop());
  });

  test("gives what came since, on Dovecot", async (t) => {
    const server = await dovecotOrSkip(t);
    if (server) await seesWhatCameSince(server);
  });
});
