/** The promises of a MailConnection, run against more than one real server, whatever its protocol. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import type { Mailbox, UserAuth } from "../../shared/contract/mailbox.ts";
import type { Arrival, MessageRef } from "../../shared/contract/message.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import { Secret } from "../../shared/contract/secret.ts";
import { type MailDeps, openMailbox } from "../../shared/mail/open.ts";
import { PASSWORD } from "../bodies.ts";
import { numbered } from "../servers/mail.ts";
import { eventually } from "../servers/waiting.ts";
import { all, depsFor, isProblem, type Watch, watchOn } from "./mailbox-rig.ts";

/** What the server calls a message: a uid, or an id. */
type Name = number | string;

/** A server under test; all its members act on the server itself. */
export type Host = {
  addUser(user: string, password: string): Promise<void>;
  append(user: string, folder: string, raw: Buffer): Promise<Name>;
  appendMany(user: string, folder: string, raws: Buffer[]): Promise<Name[]>;
  createFolder(user: string, folder: string): Promise<void>;
  expunge(user: string, folder: string, name: Name): Promise<void>;
  flags(user: string, folder: string): Promise<Map<Name, string[]>>;
  count(user: string, folder: string): Promise<number>;
  stop(): Promise<void>;
};

/** What the suite asks of a mailbox. */
export type Wanted = { folders?: string[] | "all"; since?: string; auth?: UserAuth };

export type HostKind<S extends Host> = {
  name: string;
  start: () => Promise<S>;
  mailbox: (server: S, user: string, wish?: Wanted) => Mailbox;
  /** What messages of a folder have as their folder, where that is not its name. */
  path?: (server: S, user: string, folder: string) => string;
  /** What the server lists the folder as, where that is not its name: it has its folders below another. */
  listedAs?: (folder: string) => string;
  /** What a connection needs; as `depsFor` when absent. */
  deps?: () => MailDeps;
  /** True for a server that shows a mark to others once the session that set it has ended. */
  marksAtEnd?: boolean;
  /** What `auth` is for a login that the server refuses; a wrong password when absent. */
  refused?: { wish: (server: S, user: string) => Mailbox; code: string };
  /** True for a server that may cut a connection which looks while messages arrive (GreenMail 2.1.0). */
  breaksInBursts: boolean;
  /** A folder name that is hard to write, as far as the server can list it again (GreenMail does not escape quotes). */
  oddFolder: string;
};

const { signal } = new AbortController();

/** Runs the suite; every test has its own user. */
export function mailboxPromises<S extends Host>(kind: HostKind<S>): void {
  describe(`A mailbox on ${kind.name}`, () => {
    let server: S;
    let users = 0;
    const open: Watch[] = [];
    before(async () => {
      server = await kind.start();
    });
    after(async () => {
      for (const watch of open) await watch.stop();
      await server.stop();
    });
    const deps = kind.deps ?? depsFor;
    const someone = async () => {
      const user = `user${++users}`;
      await server.addUser(user, PASSWORD);
      return user;
    };
    const watching = (user: string, wish?: Wanted, cursors?: Watch["arrivals"][number]["cursor"][]) => {
      const watch = watchOn(kind.mailbox(server, user, wish), deps(), cursors);
      open.push(watch);
      return watch;
    };
    const connection = (user: string) => {
      const mailbox = kind.mailbox(server, user);
      return openMailbox[mailbox.receive.protocol](deps(), mailbox);
    };
    const listed = (folder: string) => kind.listedAs?.(folder) ?? folder;
    const path = (user: string, folder: string) => kind.path?.(server, user, folder) ?? folder;

    test("since now hands over what arrives, and nothing that was there", async () => {
      const user = await someone();
      await server.append(user, "INBOX", numbered(1));
      const watch = watching(user);
      await watch.connected();
      assert.deepEqual(watch.messages(), []);
      assert.equal(watch.cursors().length, 1, "the cursor is handed over at once");
      const name = await server.append(user, "INBOX", numbered(2));
      const [message] = await watch.until(1);
      assert.deepEqual(message && nameOf(message), name);
      assert.equal(watch.cursors()[0]?.uid, message?.uid);
      await watch.stop();
    });

    test("since a date hands over what was received from then on", async () => {
      const user = await someone();
      const names = await server.appendMany(user, "INBOX", [numbered(1), numbered(2)]);
      const early = watching(user, { since: "2001-01-01" });
      // Two that came within the same second have no order on some servers.
      assert.deepEqual((await early.until(2)).map(nameOf).toSorted(), names.toSorted());
      const late = watching(user, { since: new Date(Date.now() + 3_600_000).toISOString() });
      await late.connected();
      assert.deepEqual(late.messages(), []);
      assert.equal(late.cursors().length, 1);
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
      const refs = await second.until(2);
      assert.deepEqual(refs.map(nameOf), missed);
      assert.ok(refs.every((ref) => ref.uid > (first.cursors()[0]?.uid ?? Infinity)));
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
      const [other, odd] = [path(user, "Büro & Co"), path(user, kind.oddFolder)];
      assert.deepEqual(foldersOf(named), [other, "INBOX"].toSorted());
      assert.deepEqual(foldersOf(every), [listed(other), "INBOX", listed(odd)].toSorted());
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
      const name = await server.append(user, "INBOX", numbered(4));
      assert.deepEqual((await watch.until(4)).slice(3).map(nameOf), [name], "it still listens after the download");
      await watch.stop();
    });

    test("leaves out of a download what is gone", async () => {
      const user = await someone();
      const names = await server.appendMany(user, "INBOX", [numbered(1), numbered(2)]);
      const mail = connection(user);
      const [refs = []] = await all(mail.listSince(new Date(0), [], signal));
      assert.deepEqual(refs.map(nameOf), names);
      await server.expunge(user, "INBOX", names[0] ?? 0);
      const same = await all(mail.fetch(refs, signal));
      assert.ok(
        same.every((one) => "raw" in one),
        "where the folder is still open it may be there",
      );
      const fresh = connection(user);
      const got = await all(fresh.fetch(refs, signal));
      assert.deepEqual(
        got.map((one) => nameOf(one.ref)),
        names.slice(1),
      );
      await fresh.close();
      await mail.close();
    });

    test("hands over 500 messages in batches whose cursors lie exactly behind them", async () => {
      const user = await someone();
      let watch = watching(user);
      await watch.connected();
      const raws = Array.from({ length: 500 }, (_, index) => numbered(index));
      const names = await server.appendMany(user, "INBOX", raws);
      const arrivals: Arrival[] = [];
      const rest = () => names.length - arrivals.flatMap((one) => one.messages).length;
      for (let tries = 0; rest() > 0; tries++) {
        const error = await watch.until(rest(), 60_000).then(() => undefined, asProblem);
        if (error && (!kind.breaksInBursts || tries > 5)) throw error;
        arrivals.push(...watch.arrivals);
        await watch.stop();
        if (error) watch = watching(user, {}, arrivals.map((one) => one.cursor).slice(-1));
      }
      assert.deepEqual(arrivals.flatMap((one) => one.messages).map(nameOf), names);
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

    test("says that a password is wrong", async () => {
      const user = await someone();
      const auth = { user, password: new Secret("not it") };
      const mailbox = kind.refused?.wish(server, user) ?? kind.mailbox(server, user, { auth });
      // A busy server may have a temporary failure first (Dovecot), which is said as such.
      const refused = async () => {
        const watch = watchOn(mailbox, deps());
        open.push(watch);
        return asProblem(await watch.ended());
      };
      const problem = await eventually(
        () => refused().then((said) => said.code !== "unavailable" && said),
        "an answer about the password",
      );
      const code = kind.refused?.code ?? "auth";
      assert.deepEqual([problem.code, problem.retry], [code, "never"], JSON.stringify(problem.view()));
    });

    test("names the folder that does not exist", async () => {
      const watch = watching(await someone(), { folders: ["INBOX", "No such"] });
      const error = await watch.folderFault();
      assert.ok(isProblem("folder")(error) && /No such/.test(String(error)), String(error));
      await watch.stop();
    });

    test("marks, moves and deletes what was delivered, and skips what is gone", async () => {
      const user = await someone();
      const names = await server.appendMany(user, "INBOX", [numbered(1), numbered(2), numbered(3)]);
      let mail = connection(user);
      const [refs = []] = await all(mail.listSince(new Date(0), [], signal));
      await mail.applyAfterDelivery(refs.slice(0, 1), "markRead", signal);
      if (kind.marksAtEnd) {
        await mail.close();
        mail = connection(user);
      }
      assert.ok((await server.flags(user, "INBOX")).get(names[0] ?? 0)?.includes("\\Seen"));
      await mail.applyAfterDelivery(refs.slice(1, 2), { move: "Done" }, signal);
      await mail.applyAfterDelivery(refs.slice(1), "delete", signal);
      assert.equal(await server.count(user, "INBOX"), 1);
      assert.equal(await server.count(user, "Done"), 1);
      await mail.close();
    });

    test("lists the folders by the names people see", async () => {
      const user = await someone();
      await server.createFolder(user, "Büro & Co");
      const mail = connection(user);
      const found = await mail.listFolders(signal);
      const names = found.map((one) => one.name);
      assert.ok(names.includes("Büro & Co"), names.join(", "));
      assert.ok(found.some((one) => one.path === "INBOX"));
      assert.ok(found.some((one) => one.path === listed(path(user, "Büro & Co"))));
      await mail.close();
    });

    test("downloads a message of 60 MB", async () => {
      const user = await someone();
      const raw = numbered(1, { bytes: 60 * 1024 * 1024 });
      await server.append(user, "INBOX", raw);
      const mail = connection(user);
      const [refs = []] = await all(mail.listSince(new Date(0), [], signal));
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

/** What the server calls a message that was handed over. */
function nameOf({ key, uid }: MessageRef): Name {
  return key ?? uid;
}

function foldersOf(watch: Watch): string[] {
  return watch
    .messages()
    .map((one) => one.folder)
    .toSorted();
}
