/** Folders of servers that keep them below INBOX, as Courier does and many hosting companies do. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { openMailbox } from "../shared/mail/open.ts";
import { PASSWORD } from "./bodies.ts";
import { all, depsFor, mailboxOn, watchOn } from "./promises/mailbox-rig.ts";
import { numbered } from "./servers/mail.ts";
import { dovecotOrSkip } from "./servers/provide.ts";

const BELOW_INBOX = `
namespace inbox {
  inbox = yes
  prefix = INBOX.
  separator = .
}`;
const { signal } = new AbortController();

test("a folder that a move or a copy needs is made below INBOX, where the server wants it", async (context) => {
  const server = await dovecotOrSkip(context, { config: BELOW_INBOX });
  if (!server) return;
  await server.addUser("ann", PASSWORD);
  await server.append("ann", "INBOX", numbered(1));
  const mail = openMailbox.imap(depsFor(), mailboxOn(server, "ann"));
  try {
    const [refs = []] = await all(mail.listSince(new Date(0), [], signal));
    await mail.applyAfterDelivery(refs, { move: "Done" }, signal);
    assert.equal(await server.count("ann", "INBOX.Done"), 1);
    assert.equal(await server.count("ann", "INBOX"), 0);
    const sent = await mail.getSentFolder?.(signal);
    assert.equal(sent, "INBOX.Sent");
    assert.equal(await server.count("ann", "INBOX.Sent"), 0);
  } finally {
    await mail.close();
  }
});

test("a folder that is named without INBOX, and that went back behind its cursor, is read again", async (context) => {
  const server = await dovecotOrSkip(context, { config: BELOW_INBOX });
  if (!server) return;
  await server.addUser("ann", PASSWORD);
  await server.createFolder("ann", "INBOX.Box");
  const mailbox = mailboxOn(server, "ann", { folders: ["Box"], since: "2001-01-01" });
  const first = watchOn(mailbox);
  await server.append("ann", "INBOX.Box", numbered(1));
  await first.until(1);
  await first.stop();
  // As after a restore from a backup: the server will give uids again that were handed over.
  const again = watchOn(
    mailbox,
    depsFor(),
    first.cursors().map((cursor) => ({ ...cursor, uid: 50 })),
  );
  await again.until(1);
  assert.deepEqual(
    again.messages().map(({ folder, uid }) => [folder, uid]),
    [["Box", 1]],
  );
  await again.stop();
});
