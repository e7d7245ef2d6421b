/** The promises of a mail connection, kept against Exchange, and what is Exchange's own: sync states, numbers, folders, notifications. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { MailboxOf } from "../shared/contract/mailbox.ts";
import { RESYNC_EPOCH, type Cursor } from "../shared/contract/message.ts";
import { notificationPool } from "../shared/mail/ews/notifications/pool.ts";
import { openMailbox } from "../shared/mail/open.ts";
import type { FactBody } from "../shared/telemetry/events.ts";
import { PASSWORD } from "./bodies.ts";
import { all, depsFor, exchangeMailboxOn, type Watch, watchOn } from "./promises/mailbox-rig.ts";
import { type Host, mailboxPromises } from "./promises/mailboxes.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { numbered } from "./servers/mail.ts";
import { eventually } from "./servers/waiting.ts";

type Hosted = Host & { real: Exchange };

const addressOf = (user: string) => `${user}@example.com`;
const placeOf = (folder: string) => (folder === "INBOX" ? "inbox" : folder);

/** An Exchange server, as the suite asks for one. */
async function hosted(): Promise<Hosted> {
  const real = await startExchange({ tls: true });
  const items = (user: string, folder: string) => real.items(addressOf(user), placeOf(folder));
  return {
    real,
    addUser: (user, password) => real.addUser(addressOf(user), password),
    append: (user, folder, raw) => real.append(addressOf(user), placeOf(folder), raw),
    appendMany: (user, folder, raws) => real.appendMany(addressOf(user), placeOf(folder), raws),
    createFolder: async (user, folder) => void (await real.createFolder(addressOf(user), folder)),
    expunge: async (user, _, name) => real.remove(addressOf(user), String(name)),
    flags: async (user, folder) => new Map(items(user, folder).map(({ id, isRead }) => [id, isRead ? ["\\Seen"] : []])),
    count: async (user, folder) => items(user, folder).length,
    stop: () => real.stop(),
  };
}

mailboxPromises<Hosted>({
  name: "Exchange",
  start: hosted,
  mailbox: ({ real }, user, wish) => {
    const { auth, ...rest } = wish ?? {};
    const own = auth && "password" in auth ? { auth: { user: addressOf(user), password: auth.password } } : {};
    return exchangeMailboxOn(real, addressOf(user), { ...rest, ...own });
  },
  path: ({ real }, user, folder) => (folder === "INBOX" ? folder : real.folderId(addressOf(user), folder)),
  breaksInBursts: false,
  oddFolder: 'Say "hi" <now>',
});

describe("An Exchange mailbox", () => {
  const signal = AbortSignal.timeout(240_000);
  const DAY = 24 * 3_600_000;
  let server: Exchange;
  let users = 0;
  const open: Watch[] = [];
  before(async () => {
    server = await startExchange();
  });
  afterEach(async () => {
    server.faults.clear();
    for (const watch of open.splice(0)) await watch.stop();
  });
  after(() => server.stop());
  const someone = async () => {
    const address = `own${++users}@example.com`;
    await server.addUser(address, PASSWORD);
    return address;
  };
  type Wish = Partial<MailboxOf<"ews">["receive"]>;
  const watching = (address: string, wish: Wish = {}, cursors: Cursor[] = [], deps = depsFor()) => {
    const watch = watchOn(exchangeMailboxOn(server, address, wish), deps, cursors);
    open.push(watch);
    return watch;
  };
  const connection = (address: string, wish: Wish = {}) =>
    openMailbox.ews(depsFor(), exchangeMailboxOn(server, address, wish));
  const asked = (operation: string) => server.calls.filter((call) => call.operation === operation).length;

  describe("hands over", () => {
    test("what was received long ago in pages, and goes on amid them after a crash", async () => {
      const address = await someone();
      const raws = Array.from({ length: 1300 }, (_, index) => numbered(index));
      const ids = await server.appendMany(address, "inbox", raws);
      const first = watching(address, { since: "2001-01-01" });
      await first.until(700);
      await first.stop();
      // The last arrival was handed over, and its cursor was not kept.
      const kept = first.arrivals.slice(0, -1);
      const cursor = kept.at(-1)?.cursor;
      assert.ok(cursor);
      const second = watching(address, { since: "2001-01-01" }, [cursor]);
      await second.connected();
      const refs = [...kept.flatMap(({ messages }) => messages), ...second.messages()];
      assert.deepEqual(refs.map(({ key }) => key).toSorted(), ids.toSorted(), "each once");
      assert.equal(new Set(refs.map(({ uid }) => uid)).size, 1300, "each with a number of its own");
      const again = first.arrivals.at(-1)?.messages ?? [];
      const numbers = new Map(second.messages().map(({ key, uid }) => [key, uid]));
      assert.ok(again.length > 0 && again.every(({ key, uid }) => numbers.get(key) === uid), "and the same as before");
    });

    test("a new message under a new number, also when the one before was handed over, forgotten and deleted", async () => {
      const address = await someone();
      const first = watching(address);
      await first.connected();
      const [lost, left] = [
        await server.append(address, "inbox", numbered(1)),
        await server.append(address, "inbox", numbered(2)),
      ];
      const handed = await first.until(2);
      await first.stop();
      const known = first.arrivals.filter(({ messages }) => messages.length === 0).at(-1)?.cursor;
      assert.ok(known);
      server.remove(address, lost);
      await server.append(address, "inbox", numbered(3));
      const second = watching(address, {}, [known]);
      const refs = await second.until(2);
      assert.equal(refs.find(({ key }) => key === left)?.uid, handed.find(({ key }) => key === left)?.uid);
      const fresh = refs.find(({ key }) => key !== left);
      assert.ok(fresh && !handed.some(({ uid }) => uid === fresh.uid), "no number means two messages");
    });

    test("mail, meeting requests and reports, and no drafts, contacts or chats", async () => {
      const address = await someone();
      const watch = watching(address);
      await watch.connected();
      const put = (number: number, more: Parameters<Exchange["append"]>[3]) =>
        server.append(address, "inbox", numbered(number), more);
      await put(1, { itemClass: "IPM.Contact" });
      await put(2, { itemClass: "IPM.Note.Microsoft.Conversation" });
      await put(3, { isDraft: true });
      const wanted = [
        await put(4, { itemClass: "IPM.Schedule.Meeting.Request" }),
        await put(5, { itemClass: "REPORT.IPM.Note.NDR" }),
        await put(6, { itemClass: "IPM.Note.SMIME.MultipartSigned" }),
        await put(7, { itemClass: "IPM.Sharing" }),
      ];
      assert.deepEqual((await watch.until(4)).map(({ key }) => key).toSorted(), wanted.toSorted());
    });

    test("only what is newer after its sync state became invalid, and knows what it handed over", async () => {
      const address = await someone();
      await server.append(address, "inbox", numbered(1), { receivedAt: new Date(Date.now() - 3 * DAY) });
      const facts: FactBody[] = [];
      const deps = depsFor({ probeMs: 200, emit: (fact) => void facts.push(fact) });
      const watch = watching(address, { since: "2001-01-01" }, [], deps);
      await watch.connected();
      await server.append(address, "inbox", numbered(2));
      await watch.until(2);
      server.invalidateSyncStates();
      const id = await server.append(address, "inbox", numbered(3));
      const refs = await watch.until(3);
      assert.deepEqual([refs.length, refs[2]?.key], [3, id]);
      assert.notEqual(refs[2]?.epoch, refs[0]?.epoch, "what comes twice is recognised by its content there");
      assert.equal(facts.filter(({ kind }) => kind === "mailbox.reset").length, 1);
      await watch.stop();
      // Without the ids: by content, as far back as a day before the newest.
      const [cursor] = watch.cursors();
      assert.ok(cursor);
      const foreign = watching(address, {}, [{ ...cursor, epoch: "1700000000", state: null }], deps);
      await foreign.connected();
      assert.equal(foreign.messages().length, 2, "the one of three days ago stays away");
    });
  });

  describe("hears", () => {
    test("again after its connections were cut, and of what came meanwhile", async () => {
      const address = await someone();
      const hints = notificationPool({ gatherMs: 20, settleMs: 50, backoff: () => 50 });
      const watch = watching(address, {}, [], depsFor({ notifications: hints }));
      await watch.connected();
      for (let round = 1; round <= 3; round += 1) {
        server.disconnectAll();
        await server.append(address, "inbox", numbered(round));
        await watch.until(round);
      }
      assert.ok(watch.connection.open);
    });

    test("by looking where the server refuses to notify", async () => {
      server.faults.always("Subscribe", { responseCode: "ErrorExceededSubscriptionCount" });
      const address = await someone();
      const watch = watching(address, {}, [], depsFor({ folderPollMs: 100 }));
      await watch.connected();
      assert.ok(watch.signs.some((sign) => sign.kind === "connected" && !sign.push));
      await server.append(address, "inbox", numbered(1));
      await watch.until(1);
    });

    test("by its own look from time to time, whatever the server says", async () => {
      const address = await someone();
      const watch = watching(address, {}, [], depsFor({ probeMs: 200 }));
      await watch.connected();
      const already = asked("SyncFolderItems");
      await eventually(() => asked("SyncFolderItems") >= already + 3, "three questions");
      assert.equal(watch.messages().length, 0);
    });

    test("by its schedule where it is polled", async () => {
      const address = await someone();
      const watch = watching(address, { mode: "poll", poll: { everySeconds: 0.1 } });
      await watch.connected();
      await server.append(address, "inbox", numbered(1));
      await watch.until(1);
      assert.ok(!server.calls.some(({ operation, anchor }) => operation === "Subscribe" && anchor === address));
      assert.ok(watch.signs.some(({ kind }) => kind === "ran"));
    });

    test("from all folders but those with what nobody received, or was thrown away", async () => {
      const address = await someone();
      const watch = watching(address, { folders: "all" });
      await watch.connected();
      await server.append(address, "sentitems", numbered(1));
      await server.append(address, "deleteditems", numbered(2));
      await server.append(address, "inbox", numbered(3));
      const refs = await watch.until(2);
      assert.deepEqual(
        refs.map(({ folder }) => folder).toSorted(),
        ["INBOX", server.folderId(address, "sentitems")].toSorted(),
      );
    });
  });

  test("hands over from a folder that was made while all are watched", async () => {
    const address = await someone();
    const orders = await server.createFolder(address, "Inbox/Orders");
    const watch = watching(address, { folders: "all", since: "2001-01-01" });
    await watch.connected();
    const made = await server.createFolder(address, "Inbox/New");
    await server.append(address, "Inbox/New", numbered(1));
    await server.append(address, "Inbox/Orders", numbered(2));
    const refs = await watch.until(2);
    assert.deepEqual(refs.map(({ folder }) => folder).toSorted(), [made, orders].toSorted());
  });

  describe("knows its folders", () => {
    test("by Exchange's names, by places in words and by ids, the inbox always as INBOX", async () => {
      const address = await someone();
      const orders = await server.createFolder(address, "Inbox/Orders");
      const inbox = server.folderId(address, "inbox");
      const names = [inbox, "inbox", "sentItems", "INBOX/Orders", "inbox/orders", orders];
      const watch = watching(address, { folders: names });
      await watch.connected();
      const paths = ["INBOX", server.folderId(address, "sentitems"), orders];
      assert.deepEqual(
        watch.cursors().map(({ folder }) => folder),
        paths,
      );
      for (const folder of ["inbox", "sentitems", "Inbox/Orders"]) await server.append(address, folder, numbered(1));
      const refs = await watch.until(3);
      assert.deepEqual(refs.map(({ folder }) => folder).toSorted(), paths.toSorted());
    });

    test("as a tree, and which are for mail", async () => {
      const address = await someone();
      const orders = await server.createFolder(address, "Inbox/Orders");
      const mail = connection(address);
      const folders = await mail.listFolders(signal);
      const named = (name: string) => folders.find((one) => one.name === name);
      const forMail = { specialUse: null, selectable: true, class: "IPF.Note" };
      assert.deepEqual(folders[0], { path: "INBOX", name: "Inbox", parent: null, ...forMail });
      assert.deepEqual(named("Orders"), { path: orders, name: "Orders", parent: "INBOX", ...forMail });
      const calendar = named("Calendar");
      assert.deepEqual([calendar?.selectable, calendar?.class], [false, "IPF.Appointment"]);
      assert.equal(named("Sent Items")?.specialUse, "\\Sent");
      await mail.close();
    });
  });

  describe("looks up once more", () => {
    test("what was received since a date, under one number however often, also while messages are deleted", async () => {
      const address = await someone();
      const ids: string[] = [];
      for (let index = 0; index < 1300; index += 1) {
        // Seven hundred of them in one second.
        const ms = index < 300 ? index * 1000 : index < 1000 ? 300_000 : (index - 600) * 1000;
        const receivedAt = new Date(Math.floor(Date.now() / 1000) * 1000 - 1_800_000 + ms);
        ids.push(await server.append(address, "inbox", numbered(index), { receivedAt }));
      }
      await server.append(address, "inbox", numbered(9999), { receivedAt: new Date(Date.now() - DAY) });
      const mail = connection(address);
      const date = new Date(Date.now() - 3_600_000);
      const seen: string[] = [];
      for await (const batch of mail.listSince(date, [], signal)) {
        seen.push(...batch.map(({ key }) => key ?? ""));
        // What is delivered may be tidied away while others are still looked for.
        for (const { key } of batch) server.remove(address, key ?? "");
      }
      assert.deepEqual(seen.toSorted(), ids.toSorted());
      await server.appendMany(address, "inbox", [numbered(1), numbered(2)]);
      const [one, other] = [await all(mail.listSince(date, [], signal)), await all(mail.listSince(date, [], signal))];
      assert.deepEqual(one, other);
      assert.ok(one.flat().length === 2 && one.flat().every(({ epoch }) => epoch === RESYNC_EPOCH));
      await mail.close();
    });

    test("messages by their Message-IDs, in all folders that are watched", async () => {
      const address = await someone();
      const ids = ["<a@x.example>", '<"b&c"@x.example>', "<gone@x.example>"];
      const put = (folder: string, number: number) =>
        server.append(address, folder, numbered(number, { messageId: ids[number] ?? null }));
      const keys = [await put("inbox", 0), await put("sentitems", 1)];
      await put("drafts", 2);
      const mail = connection(address, { folders: "all" });
      const refs = (await all(mail.findByMessageIds?.(ids, signal) ?? [])).flat();
      assert.deepEqual(refs.map(({ key }) => key).toSorted(), keys.toSorted());
      const got = await all(mail.fetch(refs, signal));
      assert.ok(got.every((one) => "raw" in one));
      await mail.close();
    });
  });

  describe("tidies", () => {
    test("by a category beside those that are there, and puts what is deleted into Deleted Items", async () => {
      const address = await someone();
      await server.appendMany(address, "inbox", [numbered(1), numbered(2)]);
      const mail = connection(address);
      const [refs = []] = await all(mail.listSince(new Date(0), [], signal));
      for (const keyword of ["Mine", "CRM", "CRM"]) await mail.applyAfterDelivery(refs, { keyword }, signal);
      assert.deepEqual(
        server.items(address, "inbox").map(({ categories }) => categories),
        [
          ["Mine", "CRM"],
          ["Mine", "CRM"],
        ],
      );
      await mail.applyAfterDelivery(refs.slice(1), { deleteAfterDays: 3 }, signal);
      await mail.applyAfterDelivery(refs, "delete", signal);
      await mail.applyAfterDelivery(refs, "markRead", signal);
      assert.equal(server.items(address, "deleteditems").length, 2);
      await mail.close();
    });

    test("into a folder by any of its names, and makes one that is not there", async () => {
      const address = await someone();
      await server.appendMany(address, "inbox", [numbered(1), numbered(2), numbered(3)]);
      const mail = connection(address);
      const [refs = []] = await all(mail.listSince(new Date(0), [], signal));
      const places = ["INBOX/Done/2026", "inbox/done", "junkemail"];
      for (const [index, move] of places.entries())
        await mail.applyAfterDelivery(refs.slice(index, index + 1), { move }, signal);
      const counts = ["Inbox/Done/2026", "Inbox/Done", "junkemail"].map((one) => server.items(address, one).length);
      assert.deepEqual(counts, [1, 1, 1]);
      await mail.close();
    });

    test("a copy into Sent Items once, as a message and not a draft", async () => {
      const address = await someone();
      const mail = connection(address);
      const folder = (await mail.getSentFolder?.(signal)) ?? "";
      assert.equal(folder, server.folderId(address, "sentitems"));
      const messageId = "<sent&1@x.example>";
      const raw = numbered(1, { messageId });
      const copy = { raw, messageIds: [messageId], flags: ["\\Seen"], date: new Date("2026-03-01T10:00:00Z") };
      for (let round = 0; round < 2; round += 1) await mail.append?.(folder, copy, signal);
      const [item, ...more] = server.items(address, "sentitems");
      assert.deepEqual([more.length, item?.isDraft, item?.isRead], [0, false, true]);
      assert.ok(item?.raw.equals(raw));
      await mail.close();
    });
  });
});
