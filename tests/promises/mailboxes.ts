/** The promises of a MailConnection, run against more than one real server. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Arrival } from "../../shared/contract/message.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import { Secret } from "../../shared/contract/secret.ts";
import { openMailbox } from "../../shared/mail/open.ts";
import { numbered } from "../servers/mail.ts";
import type { MailServer } from "../servers/mail-server.ts";
import { eventually } from "../servers/waiting.ts";
import { all, depsFor, isProblem, mailboxOn, PASSWORD, type Watch, watchOn, type Wish } from "./mailbox-rig.ts";

/** What a server under test can. */
export type ServerKind = {
  name: string;
  start: () => Promise<MailServer>;
  /** True where a changed UIDVALIDITY can be brought about. */
  renumbers: boolean;
  /** True for a server that may cut a connection which looks while messages arrive (GreenMail 2.1.0). */
  breaksInBursts: boolean;
  /** A folder name that is hard to write, as far as the server can list it again (GreenMail does not escape quotes). */
  oddFolder: string;
};

const signal = AbortSignal.timeout(300_000);

/** Runs the suite; every test has its own user. */
export function mailboxPromises(kind: ServerKind): void {
  describe(`A mailbox on ${kind.name}`, () => {
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
      const user = `user${++users}`;
      await server.addUser(user, PASSWORD);
      return user;
    };
    const watching = (user: string, wish?: Wish, cursors?: Watch["arrivals"][number]["cursor"][]) => {
      const watch = watchOn(mailboxOn(server, user, wish), depsFor(), cursors);
      open.push(watch);
      return watch;
    };
    const connection = (user: string, wish?: Wish) => openMailbox.imap(depsFor(), mailboxOn(server, user, wish));

    test("since now hands over what arrives, and nothing that was there", async () => {
      const user = await someone();
      await server.append(user, "INBOX", numbered(1));
      const watch = watching(user);
      await watch.connected();
      assert.deepEqual(watch.messages(), []);
      assert.equal(watch.cursors().length, 1, "the cursor is handed over at once");
      const uid = await server.append(user, "INBOX", numbered(2));
      const [message] = await watch.until(1);
      assert.equal(message?.uid, uid);
      assert.equal(watch.cursors()[0]?.uid, uid);
      await watch.stop();
    });

    test("since a date hands over what was received from then on", async () => {
      const user = await someone();
      const uids = await server.appendMany(user, "INBOX", [numbered(1), numbered(2)]);
      const early = watching(user, { since: "2001-01-01" });
      assert.deepEqual(
        (await early.until(2)).map((one) => one.uid),
        uids,
      );
      const late = watching(user, { since: new Date(Date.now() + 3_600_000).toISOString() });
      await late.connected();
      assert.deepEqual(late.messages(), []);
      assert.equal(late.cursors()[0]?.uid, uids.at(-1));
      await Promise.all([early.stop(), late.stop()]);
    });

    test("goes on exactly behind the cursor of an earlier watch", async () => {
      const user = await someone();
      const first = watching(user);
      await first.connected();
      await server.append(user, "INBOX", numbered(1));
      await first.until(1);
      await first.stop();
      const missed = await server.appendMany(user, "INBOX", [numbered(2), numbered(3)]);
      const second = watching(user, {}, first.cursors());
      assert.deepEqual(
        (await second.until(2)).map((one) => one.uid),
        missed,
      );
      await second.stop();
    });

    test("sees several folders, and with all the sent ones but no drafts or trash", async () => {
      const user = await someone();
      for (const folder of ["Büro & Co", kind.oddFolder]) await server.createFolder(user, folder);
      const named = watching(user, { folders: ["INBOX", "Büro & Co"] });
      const every = watching(user, { folders: "all" });
      await Promise.all([named.connected(), every.connected()]);
      await server.append(user, "Büro & Co", numbered(1));
      await server.append(user, kind.oddFolder, numbered(2));
      await server.append(user, "INBOX", numbered(3));
      await named.until(2);
      await every.until(3);
      assert.deepEqual(foldersOf(named), ["Büro & Co", "INBOX"]);
      assert.deepEqual(foldersOf(every), ["Büro & Co", "INBOX", kind.oddFolder].toSorted());
      await Promise.all([named.stop(), every.stop()]);
    });

    test("downloads the very bytes while it watches, and leaves the flags alone", async () => {
      const user = await someone();
      const watch = watching(user);
      await watch.connected();
      const raws = [1, 2, 3].map((number) => numbered(number));
      await server.appendMany(user, "INBOX", raws);
      const refs = await watch.until(3);
      const got = await all(watch.connection.fetch([...refs].toReversed(), signal));
      const bytes = got.map((one) => ("raw" in one ? Buffer.from(one.raw).toString("latin1") : String(one.problem)));
      for (const raw of raws) assert.ok(bytes.some((one) => one.includes(raw.toString("latin1").trim().slice(-40))));
      assert.ok([...(await server.flags(user, "INBOX")).values()].every((flags) => !flags.includes("\\Seen")));
      const uid = await server.append(user, "INBOX", numbered(4));
      assert.equal((await watch.until(4))[3]?.uid, uid, "it still listens after the download");
      await watch.stop();
    });

    test("leaves out of a download what is gone, and refuses one of another epoch", async () => {
      const user = await someone();
      const uids = await server.appendMany(user, "INBOX", [numbered(1), numbered(2)]);
      const mail = connection(user);
      const [refs = []] = await all(mail.since(new Date(0), [], signal));
      assert.deepEqual(
        refs.map((one) => one.uid),
        uids,
      );
      await server.expunge(user, "INBOX", uids[0] ?? 0);
      const same = await all(mail.fetch(refs, signal));
      assert.ok(
        same.every((one) => "raw" in one),
        "where the folder is still open it may be there",
      );
      const fresh = connection(user);
      const got = await all(fresh.fetch(refs, signal));
      assert.deepEqual(
        got.map((one) => one.ref.uid),
        [uids[1]],
      );
      await fresh.close();
      const stale = refs.map((one) => ({ ...one, epoch: "1" }));
      await assert.rejects(all(mail.fetch(stale, signal)), isProblem("gone"));
      await mail.close();
    });

    test("hands over 500 messages in batches whose cursors lie exactly behind them", async () => {
      const user = await someone();
      let watch = watching(user);
      await watch.connected();
      const raws = Array.from({ length: 500 }, (_, index) => numbered(index));
      const uids = await server.appendMany(user, "INBOX", raws);
      const arrivals: Arrival[] = [];
      const rest = () => uids.length - arrivals.flatMap((one) => one.messages).length;
      for (let tries = 0; rest() > 0; tries++) {
        const error = await watch.until(rest(), 60_000).then(() => undefined, asProblem);
        if (error && (!kind.breaksInBursts || tries > 5)) throw error;
        arrivals.push(...watch.arrivals);
        await watch.stop();
        if (error) watch = watching(user, {}, arrivals.map((one) => one.cursor).slice(-1));
      }
      assert.deepEqual(
        arrivals.flatMap((one) => one.messages).map((one) => one.uid),
        uids,
      );
      for (const { messages, cursor } of arrivals) {
        assert.ok(messages.length <= 100);
        if (messages.length > 0) assert.equal(cursor.uid, messages.at(-1)?.uid);
      }
    });

    test("ends promptly and quietly when it is called off", async () => {
      const watch = watching(await someone());
      await watch.connected();
      await watch.stop();
      assert.equal(await watch.ended(), undefined);
      assert.equal(watch.connection.open, false);
    });

    test("throws when the connection is lost", async () => {
      const watch = watching(await someone());
      await watch.connected();
      await server.disconnectAll();
      assert.ok((await watch.ended()) instanceof Problem);
      assert.equal(watch.connection.open, false);
    });

    test("says that a password is wrong", async () => {
      const user = await someone();
      const auth = { user, password: new Secret("not it") };
      // A busy server may have a temporary failure first (Dovecot), which is said as such.
      const refused = async () => asProblem(await watching(user, { auth }).ended());
      const problem = await eventually(
        () => refused().then((said) => said.code !== "unavailable" && said),
        "an answer about the password",
      );
      assert.deepEqual([problem.code, problem.retry], ["auth", "never"], JSON.stringify(problem.view()));
    });

    test("names the folder that does not exist", async () => {
      const error = await watching(await someone(), { folders: ["INBOX", "No such"] }).ended();
      assert.ok(isProblem("folder")(error) && /No such/.test(String(error)), String(error));
    });

    test("marks, moves and deletes what was delivered, and skips what is gone", async () => {
      const user = await someone();
      const uids = await server.appendMany(user, "INBOX", [numbered(1), numbered(2), numbered(3)]);
      const mail = connection(user);
      const [refs = []] = await all(mail.since(new Date(0), [], signal));
      await mail.tidy(refs.slice(0, 1), "markRead", signal);
      assert.ok((await server.flags(user, "INBOX")).get(uids[0] ?? 0)?.includes("\\Seen"));
      await mail.tidy(refs.slice(1, 2), { move: "Done" }, signal);
      await mail.tidy(refs.slice(1), "delete", signal);
      assert.equal(await server.count(user, "INBOX"), 1);
      assert.equal(await server.count(user, "Done"), 1);
      await mail.close();
    });

    test("lists the folders by the names people see", async () => {
      const user = await someone();
      await server.createFolder(user, "Büro & Co");
      const mail = connection(user);
      const found = (await mail.folders(signal)).map((one) => one.path);
      assert.ok(found.includes("INBOX") && found.includes("Büro & Co"), found.join(", "));
      await mail.close();
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

    test("downloads a message of 60 MB", async () => {
      const user = await someone();
      const raw = numbered(1, { bytes: 60 * 1024 * 1024 });
      await server.append(user, "INBOX", raw);
      const mail = connection(user);
      const [refs = []] = await all(mail.since(new Date(0), [], signal));
      const [got] = await all(mail.fetch(refs, signal));
      assert.ok(got && "raw" in got, got && "problem" in got ? String(got.problem) : "nothing came");
      assert.ok(got.raw.length >= 60 * 1024 * 1024);
      await mail.close();
    });

    test("keeps listening through many downloads at once", async () => {
      const user = await someone();
      const watch = watching(user);
      await watch.connected();
      await server.appendMany(
        user,
        "INBOX",
        Array.from({ length: 30 }, (_, index) => numbered(index)),
      );
      const refs = await watch.until(30);
      const rounds = await Promise.all(refs.map((ref) => all(watch.connection.fetch([ref], signal))));
      assert.ok(rounds.every((got) => got.length === 1 && got[0] && "raw" in got[0]));
      await server.append(user, "INBOX", numbered(99));
      await watch.until(31);
      assert.ok(watch.connection.open);
      await watch.stop();
    });
  });
}

function foldersOf(watch: Watch): string[] {
  return watch
    .messages()
    .map((one) => one.folder)
    .toSorted();
}
