/** The promises of a MailConnection over POP3, run against more than one real server. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { MailboxOf } from "../../shared/contract/mailbox.ts";
import type { Cursor } from "../../shared/contract/message.ts";
import { Secret } from "../../shared/contract/secret.ts";
import { openMailbox } from "../../shared/mail/open.ts";
import { maildropPool } from "../../shared/mail/pop3/maildrops.ts";
import { PASSWORD } from "../bodies.ts";
import { numbered } from "../servers/mail.ts";
import type { MailServer } from "../servers/mail-server.ts";
import { eventually } from "../servers/waiting.ts";
import { all, depsFor, isProblem, maildropOn, type Watch, watchOn } from "./mailbox-rig.ts";

export type MaildropServer = {
  host: string;
  ca: string | undefined;
  pop3Port: number;
  /** 0 without TLS. */
  pop3sPort: number;
  addUser(user: string, password: string): Promise<void>;
  append(user: string, raw: Buffer): Promise<unknown>;
  appendMany(user: string, raws: Buffer[]): Promise<unknown>;
  count(user: string): Promise<number>;
  stop(): Promise<void>;
};

export type MaildropKind = {
  name: string;
  start: () => Promise<MaildropServer>;
  stls: boolean;
  /** How many megabytes the largest message has. */
  largest: number;
  /** True for a server that refuses messages with NUL bytes (Cyrus). */
  refusesNul?: boolean;
  /** What the server itself writes into messages (GNU Mailutils). */
  writes?: RegExp;
  /** True for a server that refuses a login while a message is written into the maildrop. */
  locks?: boolean;
};

type WithPop3 = MailServer & { pop3Port: number; pop3sPort: number };

/** A server whose mail is put and counted by IMAP, and removed when the suite ends. */
export function overImap(server: WithPop3, remove: () => Promise<void>): MaildropServer {
  return {
    host: server.host,
    ca: server.ca,
    pop3Port: server.pop3Port,
    pop3sPort: server.pop3sPort,
    addUser: server.addUser,
    append: (user, raw) => server.append(user, "INBOX", raw),
    appendMany: (user, raws) => server.appendMany(user, "INBOX", raws),
    count: (user) => server.count(user, "INBOX"),
    stop: remove,
  };
}

type Wish = Partial<MailboxOf<"pop3">["receive"]>;

const { signal } = new AbortController();
const isInUse = isProblem("unavailable", "later");
const many = (count: number) => Array.from({ length: count }, (_, index) => numbered(index));

/** Runs the suite; every test has its own user. */
export function maildropPromises(kind: MaildropKind): void {
  describe(`A mailbox by POP3 on ${kind.name}`, () => {
    let server: MaildropServer;
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
      const user = `popper${++users}`;
      await server.addUser(user, PASSWORD);
      return user;
    };
    // As in one process: all connections share the turns.
    const deps = depsFor({ maildrops: maildropPool(300) });
    const watching = (user: string, wish?: Wish, cursors?: Cursor[]) => {
      const watch = watchOn(maildropOn(server, user, wish), deps, cursors, (error) => !!kind.locks && isInUse(error));
      open.push(watch);
      return watch;
    };
    const connection = (user: string) => openMailbox.pop3(deps, maildropOn(server, user));

    test("since now hands over what arrives, and nothing that was there", async () => {
      const user = await someone();
      await server.append(user, numbered(1));
      const watch = watching(user);
      await watch.connected();
      assert.deepEqual(watch.messages(), []);
      assert.equal(watch.cursors()[0]?.uid, 1, "the cursor lies after what was there");
      await server.append(user, numbered(2));
      const [message] = await watch.until(1);
      assert.equal(message?.uid, 2);
      await watch.stop();
    });

    test("since a date hands over what was received from then on", async () => {
      const user = await someone();
      await server.appendMany(user, [
        numbered(1, { date: new Date("2020-05-01") }),
        numbered(2, { date: new Date("2022-05-01") }),
      ]);
      const watch = watching(user, { since: "2021-01-01" });
      await watch.connected();
      assert.deepEqual(
        watch.messages().map(({ uid }) => uid),
        [2],
      );
      await watch.stop();
    });

    test("goes on exactly behind the cursor of an earlier watch, one that ended in the middle of a run too", async () => {
      const user = await someone();
      await server.appendMany(user, many(250));
      const first = watching(user, { since: "2001-01-01" });
      await first.until(250);
      await first.stop();
      const [middle] = first.arrivals;
      const second = watching(user, { since: "2001-01-01" }, middle ? [middle.cursor] : []);
      await second.connected();
      assert.deepEqual(
        second.messages().map(({ uid, key }) => [uid, key]),
        first
          .messages()
          .slice(middle?.messages.length)
          .map(({ uid, key }) => [uid, key]),
      );
      await second.stop();
    });

    test("downloads the very bytes while it watches, and deletes nothing", async () => {
      const user = await someone();
      const watch = watching(user);
      await watch.connected();
      const nul = kind.refusesNul ? "" : "\x00";
      const odd = Buffer.concat([numbered(1), Buffer.from(`.\r\n..\r\n.x\r\n\r\nGr\xfc\xdfe${nul}\r\n`, "latin1")]);
      await server.appendMany(user, [odd, numbered(2)]);
      const refs = await watch.until(2);
      const got = await all(watch.connection.fetch(refs.toReversed(), signal));
      const raws = got.map((one) => ("raw" in one ? Buffer.from(one.raw).toString("latin1") : String(one.problem)));
      const sent = (raw = "") => (kind.writes ? raw.replace(kind.writes, "") : raw).trimEnd();
      if (kind.name !== "GreenMail") assert.equal(sent(raws[0]), sent(odd.toString("latin1")));
      assert.match(raws[1] ?? "", /This is message 2/);
      assert.equal(await server.count(user), 2);
      await watch.stop();
    });

    test("leaves out of a download what is gone, and refuses what was numbered by another protocol", async () => {
      const user = await someone();
      await server.appendMany(user, many(2));
      const watch = watching(user, { since: "2001-01-01" });
      const refs = await watch.until(2);
      await watch.stop();
      const mail = connection(user);
      await mail.applyAfterDelivery(refs.slice(0, 1), "delete", signal);
      const got = await all(mail.fetch(refs, signal));
      assert.deepEqual(
        got.map((one) => one.ref.uid),
        [2],
      );
      await assert.rejects(
        all(
          mail.fetch(
            refs.map((one) => ({ ...one, epoch: "1" })),
            signal,
          ),
        ),
        isProblem("gone"),
      );
      await mail.close();
    });

    test("deletes what was delivered, and nothing else, also twice", async () => {
      const user = await someone();
      await server.appendMany(user, many(3));
      const watch = watching(user, { since: "2001-01-01" });
      const refs = await watch.until(3);
      const [first, second] = [refs.slice(0, 1), refs.slice(1, 2)];
      await Promise.all([
        watch.connection.applyAfterDelivery(first, "delete", signal),
        watch.connection.applyAfterDelivery(second, "delete", signal),
      ]);
      await watch.connection.applyAfterDelivery(refs.slice(0, 2), "delete", signal);
      assert.equal(await server.count(user), 1);
      await server.append(user, numbered(4));
      assert.equal((await watch.until(4))[3]?.uid, 4, "numbers are not used again");
      await watch.stop();
    });

    test("hands over 500 messages in batches whose cursors lie exactly behind them", async () => {
      const user = await someone();
      const watch = watching(user);
      await watch.connected();
      await server.appendMany(user, many(500));
      await watch.until(500, 60_000);
      assert.deepEqual(
        watch.messages().map(({ uid }) => uid),
        Array.from({ length: 500 }, (_, index) => index + 1),
      );
      for (const { messages, cursor } of watch.arrivals) {
        assert.ok(messages.length <= 100);
        if (messages.length > 0) assert.equal(cursor.uid, messages.at(-1)?.uid);
      }
      await watch.stop();
    });

    test("many downloads and deletions at once take turns with the looks", async () => {
      const user = await someone();
      const watch = watching(user);
      await watch.connected();
      await server.appendMany(user, many(30));
      const refs = await watch.until(30);
      const others = [connection(user), connection(user)];
      await Promise.all(
        refs.map(async (ref, index) => {
          const by = others[index % 2] ?? watch.connection;
          const got = await all(by.fetch([ref], signal));
          assert.ok(got.length === 1 && got[0] && "raw" in got[0]);
          if (index % 3 === 0) await by.applyAfterDelivery([ref], "delete", signal);
        }),
      );
      assert.equal(await server.count(user), 20);
      await server.append(user, numbered(99));
      await watch.until(31);
      for (const one of others) await one.close();
      await watch.stop();
    });

    test("resync finds what the cursor knows, by date", async () => {
      const user = await someone();
      await server.appendMany(user, [
        numbered(1, { date: new Date("2020-05-01") }),
        numbered(2, { date: new Date("2022-05-01") }),
      ]);
      const watch = watching(user);
      await watch.connected();
      await watch.stop();
      const mail = connection(user);
      const found = await all(mail.listSince(new Date("2021-01-01"), watch.cursors(), signal));
      assert.deepEqual(
        found.flat().map(({ uid }) => uid),
        [2],
      );
      await mail.close();
    });

    test("ends promptly and quietly when it is called off", async () => {
      const watch = watching(await someone(), { poll: { everySeconds: 3600 } });
      await watch.connected();
      await watch.stop();
      assert.equal(await watch.ended(), undefined);
      assert.equal(watch.connection.open, false);
    });

    test("says that a password is wrong", async () => {
      const user = await someone();
      const auth = { user, password: new Secret("not it") };
      assert.ok(isProblem("auth")(await watching(user, { auth }).ended()));
    });

    test("upgrades a plain connection by STLS", { skip: !kind.stls }, async () => {
      const user = await someone();
      const watch = watching(user, { tls: "starttls", port: server.pop3Port });
      await watch.connected();
      await watch.stop();
    });

    test(`downloads a message of ${kind.largest} MB`, async () => {
      const user = await someone();
      const put = () => server.append(user, numbered(1, { bytes: kind.largest * 1024 * 1024 }));
      if (kind.locks) await put();
      const watch = watching(user, kind.locks ? { since: "2001-01-01" } : {});
      await watch.connected();
      if (!kind.locks) await put();
      const refs = await watch.until(1, 60_000);
      const [got] = await all(watch.connection.fetch(refs, signal));
      assert.ok(got && "raw" in got && got.raw.length >= kind.largest * 1024 * 1024);
      await eventually(async () => watch.signs.length > 0, "a sign");
      await watch.stop();
    });
  });
}
