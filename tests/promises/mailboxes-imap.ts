/** The promises of a mailbox that is received by IMAP, beside those of every mailbox: uids, epochs, STARTTLS, one connection. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Problem } from "../../shared/contract/problem.ts";
import { openMailbox } from "../../shared/mail/open.ts";
import { PASSWORD } from "../bodies.ts";
import { numbered } from "../servers/mail.ts";
import type { MailServer } from "../servers/mail-server.ts";
import { all, depsFor, isProblem, mailboxOn, type Watch, watchOn, type Wish } from "./mailbox-rig.ts";
import { type HostKind, mailboxPromises } from "./mailboxes.ts";

/** What an IMAP server under test can. */
export type ServerKind = Omit<HostKind<MailServer>, "mailbox"> & {
  /** True where a changed UIDVALIDITY can be brought about. */
  renumbers: boolean;
};

const { signal } = new AbortController();

/** Runs both suites; every test has its own user. */
export function imapMailboxPromises(kind: ServerKind): void {
  mailboxPromises({ ...kind, mailbox: mailboxOn });

  describe(`A mailbox by IMAP on ${kind.name}`, () => {
    let server: MailServer;
    let users = 0;
    const open: Watch[] = [];
    before(async () => {
      server = await kind.start();
    });
    after(async () => {
      for (const watch of open) await watch.stop();
      await server.stop();
    });
    const someone = async () => {
      const user = `imap${++users}`;
      await server.addUser(user, PASSWORD);
      return user;
    };
    const watching = (user: string, wish?: Wish, cursors?: Watch["arrivals"][number]["cursor"][]) => {
      const watch = watchOn(mailboxOn(server, user, wish), depsFor(), cursors);
      open.push(watch);
      return watch;
    };

    test("has a cursor at the newest message when nothing is handed over", async () => {
      const user = await someone();
      const uids = await server.appendMany(user, "INBOX", [numbered(1), numbered(2)]);
      const watch = watching(user, { since: new Date(Date.now() + 3_600_000).toISOString() });
      await watch.connected();
      assert.deepEqual(watch.messages(), []);
      assert.equal(watch.cursors()[0]?.uid, uids.at(-1));
      await watch.stop();
    });

    test("refuses to download messages of another epoch", async () => {
      const user = await someone();
      await server.append(user, "INBOX", numbered(1));
      const mail = openMailbox.imap(depsFor(), mailboxOn(server, user));
      const [refs = []] = await all(mail.listSince(new Date(0), [], signal));
      const stale = refs.map((one) => ({ ...one, epoch: "1" }));
      await assert.rejects(all(mail.fetch(stale, signal)), isProblem("gone"));
      await mail.close();
    });

    test("throws when the connection is lost", async () => {
      const watch = watching(await someone());
      await watch.connected();
      await server.disconnectAll();
      assert.ok((await watch.ended()) instanceof Problem);
      assert.equal(watch.connection.open, false);
    });

    test("upgrades a plain connection by STARTTLS", { skip: kind.name === "GreenMail" }, async () => {
      const user = await someone();
      const watch = watching(user, { tls: "starttls", port: server.imapPort });
      await watch.connected();
      await watch.stop();
    });

    test(
      "reads a renumbered folder again, from a day before the newest message",
      { skip: !kind.renumbers },
      async () => {
        const user = await someone();
        const watch = watching(user);
        await watch.connected();
        await server.append(user, "INBOX", numbered(1));
        await watch.until(1);
        await watch.stop();
        const epoch = await server.changeUidValidity(user, "INBOX");
        await server.append(user, "INBOX", numbered(2));
        const again = watching(user, {}, watch.cursors());
        await again.until(2);
        assert.ok(again.messages().every((one) => one.epoch === String(epoch)));
        await again.stop();
      },
    );
  });
}
