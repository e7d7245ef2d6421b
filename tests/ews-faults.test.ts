/** An Exchange mailbox under faults of its server: what is refused for one message, one folder, one login, or for all. */
import assert from "node:assert/strict";
import { after, afterEach, before, describe, test } from "node:test";
import type { MailboxOf } from "../shared/contract/mailbox.ts";
import { Problem } from "../shared/contract/problem.ts";
import { openMailbox } from "../shared/mail/open.ts";
import { PASSWORD } from "./bodies.ts";
import { all, depsFor, exchangeMailboxOn, isProblem, type Watch, watchOn } from "./promises/mailbox-rig.ts";
import { type Exchange, startExchange } from "./servers/exchange/server.ts";
import { numbered } from "./servers/mail.ts";
import { eventually } from "./servers/waiting.ts";

const { signal } = new AbortController();

/** Throttled, with the time before which nothing may be asked. */
function later(error: unknown): boolean {
  return error instanceof Problem && error.code === "throttled" && error.retry instanceof Date;
}

describe("An Exchange mailbox whose server", () => {
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
  type Wish = Partial<MailboxOf<"ews">["receive"]>;
  const someone = async (more?: Parameters<Exchange["addUser"]>[2]) => {
    const address = `faulty${++users}@example.com`;
    await server.addUser(address, PASSWORD, more);
    return address;
  };
  const connection = (address: string, wish: Wish = {}) =>
    openMailbox.ews(depsFor(), exchangeMailboxOn(server, address, wish));
  const watching = (address: string, wish: Wish = {}, deps = depsFor()) => {
    const watch = watchOn(exchangeMailboxOn(server, address, wish), deps);
    open.push(watch);
    return watch;
  };
  const handedOver = async (address: string, count: number) => {
    const mail = connection(address);
    const raws = Array.from({ length: count }, (_, index) => numbered(index));
    await server.appendMany(address, "inbox", raws);
    return { mail, refs: (await all(mail.listSince(new Date(0), [], signal))).flat() };
  };

  test("does not give one message, gives the others", async () => {
    const { mail, refs } = await handedOver(await someone(), 3);
    server.faults.once("GetItem", { responseCode: "ErrorMimeContentConversionFailed" }, { times: 2 });
    const got = await all(mail.fetch(refs.slice(0, 1), signal));
    assert.ok(got[0] && "problem" in got[0] && isProblem("message")(got[0].problem));
    assert.equal((await all(mail.fetch(refs, signal))).filter((one) => "raw" in one).length, 3);
    await mail.close();
  });

  test("has a slow clock: a message that it delivers now is new whatever its date, a moved one is not", async () => {
    const address = await someone();
    const watch = watching(address);
    await watch.connected();
    const receivedAt = new Date(Date.now() - 3 * 24 * 3_600_000);
    const key = await server.append(address, "inbox", numbered(1), { receivedAt });
    const [delivered] = await watch.until(1);
    assert.equal(delivered?.key, key);
    assert.equal(delivered.undated, true);
    await server.createFolder(address, "Old");
    const old = await server.append(address, "Old", numbered(2), { receivedAt });
    server.move(address, old, "inbox");
    const moved = (await watch.until(2)).at(-1);
    assert.equal(moved?.undated, undefined);
    assert.equal(Date.parse(moved?.receivedAt ?? ""), Math.floor(receivedAt.getTime() / 1000) * 1000);
  });

  test("is busy while messages are downloaded or tidied: later, and not before it says", async () => {
    const { mail, refs } = await handedOver(await someone(), 2);
    const busy = { responseCode: "ErrorServerBusy", backOffMs: 60_000 };
    server.faults.once("GetItem", busy);
    await assert.rejects(all(mail.fetch(refs, signal)), later);
    server.faults.once("UpdateItem", busy);
    await assert.rejects(mail.applyAfterDelivery(refs, "markRead", signal), later);
    await mail.close();
  });

  test("cuts the answer amid a download: nothing half is handed over", async () => {
    const { mail, refs } = await handedOver(await someone(), 20);
    server.faults.once("GetItem", { cut: 3000 });
    await assert.rejects(all(mail.fetch(refs, signal)), isProblem("connect"));
    assert.equal((await all(mail.fetch(refs, signal))).length, 20);
    await mail.close();
  });

  test("is older than the attribute that keeps read receipts back: the messages are marked without it", async () => {
    const address = await someone();
    const { mail, refs } = await handedOver(address, 2);
    server.faults.once("UpdateItem", { soapFault: "ErrorSchemaValidation" });
    await mail.applyAfterDelivery(refs, "markRead", signal);
    assert.ok(server.items(address, "inbox").every(({ isRead }) => isRead));
    const bodies = server.calls
      .filter(({ operation }) => operation === "UpdateItem")
      .slice(-2)
      .map(({ body }) => body);
    assert.deepEqual(
      bodies.map((body) => body.includes("SuppressReadReceipts")),
      [true, false],
    );
    await mail.close();
  });

  test("does not find a message by its id and lists it in its folder: it is not gone; one that is not listed is", async () => {
    const address = await someone();
    const { mail, refs } = await handedOver(address, 3);
    const [lost, removed] = refs;
    server.refuseItem(lost?.key ?? "", "ErrorItemNotFound");
    server.remove(address, removed?.key ?? "");
    const kinds = async (asked: typeof refs) =>
      (await all(mail.fetch(asked, signal))).map((one) =>
        "raw" in one ? [one.ref.key, "raw"] : [one.ref.key, one.problem.code, String(one.problem.evidence)],
      );
    const given = [refs[2]?.key, "raw"];
    const withheld = [lost?.key, "message", "ErrorItemNotFound"];
    assert.deepEqual(await kinds(refs), [given, withheld]);
    const undated = refs.map((ref) => ({ ...ref, undated: true as const, receivedAt: new Date().toISOString() }));
    assert.deepEqual(await kinds(undated), [given, withheld]);
    const elsewhere = refs.map((ref) => ({ ...ref, folder: "Inbox/No longer there" }));
    assert.deepEqual(await kinds(elsewhere), [given]);
    await mail.close();
  });

  test("was asked for messages under names of another protocol: they are gone, and found again otherwise", async () => {
    const { mail, refs } = await handedOver(await someone(), 1);
    const foreign = refs.map(({ folder, epoch, uid, size, receivedAt }) => ({ folder, epoch, uid, size, receivedAt }));
    await assert.rejects(all(mail.fetch(foreign, signal)), isProblem("gone", "never"));
    await mail.applyAfterDelivery(foreign, "markRead", signal);
    await mail.close();
  });

  test("lost a folder that is watched by its name: a person is told", async () => {
    const address = await someone();
    await server.createFolder(address, "Inbox/Orders");
    server.faults.always("SyncFolderItems", { responseCode: "ErrorSyncFolderNotFound" });
    const watch = watching(address, { folders: ["Inbox/Orders"] });
    assert.ok(isProblem("folder", "never")(await watch.folderFault()));
  });

  test("has no folder of one name that is watched: the others go on, it is named, and found when it is there", async () => {
    for (const mode of ["push", "poll"] as const) {
      const address = await someone();
      const name = `Late ${mode}`;
      const wish = { folders: ["INBOX", name], since: "2001-01-01", mode, poll: { everySeconds: 0.3 } };
      const watch = watching(address, wish, depsFor({ folderPollMs: 300 }));
      assert.match(String(await watch.folderFault()), new RegExp(`no folder named "${name}"`));
      await server.append(address, "inbox", numbered(1));
      await watch.until(1);
      await server.createFolder(address, name);
      await server.append(address, name, numbered(2));
      await watch.until(2);
      await eventually(() => {
        const last = watch.signs.findLast((one) => one.kind === "folders");
        return last?.kind === "folders" && last.problem === null;
      }, "the fault to be over");
      await watch.stop();
    }
  });

  test("lets nobody read one of the watched folders: the others go on, and it is named", async () => {
    const address = await someone();
    await server.createFolder(address, "Inbox/Closed");
    server.refuseItem(server.folderId(address, "Inbox/Closed"), "ErrorAccessDenied");
    for (const folders of [["INBOX", "Inbox/Closed"], "all"] as const) {
      const watch = watching(address, { folders: folders === "all" ? folders : [...folders], since: "2001-01-01" });
      const fault = await watch.folderFault();
      assert.ok(isProblem("access")(fault) && /"Inbox\/Closed"/.test(String(fault)), String(fault));
      await server.append(address, "inbox", numbered(1));
      await watch.until(1);
      await watch.stop();
    }
  });

  for (const code of ["ErrorInternalServerError", "ErrorCorruptData", "ErrorNobodyKnows"])
    test(`fails with ${code} at one of the watched folders: the others go on, and it goes on when it can`, async () => {
      const address = await someone();
      await server.createFolder(address, "Broken");
      const broken = server.folderId(address, "Broken");
      server.refuseItem(broken, code);
      const wish = { folders: ["Broken", "INBOX"], since: "2001-01-01" };
      const watch = watching(address, wish, depsFor({ folderPollMs: 300 }));
      assert.match(String(await watch.folderFault()), /"Broken"/);
      await server.append(address, "inbox", numbered(1));
      await watch.until(1);
      server.refuseItem(broken, undefined);
      await server.append(address, "Broken", numbered(2));
      await watch.until(2);
    });

  test("fails at several folders in a row: those behind them are read", async () => {
    const address = await someone();
    const names = ["A", "B", "C"];
    for (const name of names) {
      await server.createFolder(address, name);
      server.refuseItem(server.folderId(address, name), "ErrorInternalServerError");
    }
    await server.createFolder(address, "Good");
    const watch = watching(address, { folders: ["INBOX", ...names, "Good"], since: "2001-01-01" });
    await watch.folderFault();
    await server.append(address, "Good", numbered(1));
    await watch.until(1);
  });

  test("fails at every folder: the subscription ends with what it says", async () => {
    const address = await someone();
    await server.createFolder(address, "Broken");
    for (const name of ["inbox", "Broken"])
      server.refuseItem(server.folderId(address, name), "ErrorInternalServerError");
    const error = await watching(address, { folders: ["INBOX", "Broken"] }).ended();
    assert.ok(isProblem("unavailable")(error), String(error));
  });

  test("lost the folder that messages are moved to: it is made once more", async () => {
    const address = await someone();
    const { mail, refs } = await handedOver(address, 2);
    await mail.applyAfterDelivery(refs.slice(0, 1), { move: "Done" }, signal);
    server.faults.once("MoveItem", { responseCode: "ErrorToFolderNotFound" });
    await mail.applyAfterDelivery(refs.slice(1), { move: "Done" }, signal);
    assert.equal(server.items(address, "Done").length, 2);
    await mail.close();
  });

  test("is asked over few connections, however often", async () => {
    const address = await someone();
    const watch = watching(address, {}, depsFor({ probeMs: 50 }));
    await watch.connected();
    const looks = () => server.calls.filter((call) => call.operation === "SyncFolderItems" && call.anchor === address);
    await eventually(() => looks().length > 20, "many looks");
    assert.ok(new Set(looks().map(({ wire }) => wire)).size <= 2);
  });

  test("refuses subscriptions with a word nobody here knows: the mailbox is looked at from time to time", async () => {
    server.faults.always("Subscribe", { responseCode: "ErrorInvalidOperation" });
    const address = await someone();
    const watch = watching(address, {}, depsFor({ folderPollMs: 100 }));
    await eventually(async () => watch.arrivals.length > 0, "the first look");
    await server.append(address, "inbox", numbered(1));
    await watch.until(1);
  });

  test("gives a login access to somebody else's mailbox, by delegation or by impersonation", async () => {
    const login = await someone();
    const shared = await someone({ delegates: [login], impersonators: [login] });
    const auth = exchangeMailboxOn(server, login).receive.auth;
    for (const access of ["delegate", "impersonate"] as const) {
      for (const folders of [["INBOX"], "all" as const]) {
        const watch = watching(shared, { auth, access, folders });
        await watch.connected();
        const key = await server.append(shared, "inbox", numbered(1));
        const refs = await watch.until(1);
        assert.equal(refs[0]?.key, key, access);
        assert.equal((await all(watch.connection.fetch(refs, signal))).length, 1);
        await watch.connection.applyAfterDelivery(refs, { move: "deleteditems" }, signal);
        assert.ok(!server.items(shared, "inbox").some(({ id }) => id === key));
        await watch.stop();
      }
    }
    const stranger = watching(shared, {
      auth: exchangeMailboxOn(server, await someone()).receive.auth,
      access: "delegate",
    });
    assert.ok(isProblem("access", "never")(await stranger.ended()) || isProblem("no_mailbox")(await stranger.ended()));
  });
});
