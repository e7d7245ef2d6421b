/** How the folders of a Graph mailbox are compared: dead links, cut rounds, odd pages, full mailboxes, messages that come back. */
import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import type { Cursor, MessageRef } from "../shared/contract/message.ts";
import { isProblem, type Watch, watchOn } from "./promises/mailbox-rig.ts";
import { graphDeps, graphMailboxOn, type GraphWish } from "./promises/graph-rig.ts";
import { type GraphServer, startGraphServer } from "./servers/graph/server.ts";
import { numbered } from "./servers/mail.ts";
import { eventually } from "./servers/waiting.ts";

const DAY = 24 * 3_600_000;
const keys = (refs: MessageRef[]) => refs.map(({ key }) => key).toSorted();

describe("A Graph mailbox", () => {
  let server: GraphServer;
  let user: string;
  let users = 0;
  const open: Watch[] = [];
  before(async () => {
    server = await startGraphServer();
  });
  beforeEach(async () => {
    user = `user${++users}`;
    await server.addUser(user);
  });
  afterEach(async () => {
    await Promise.all(open.splice(0).map((watch) => watch.stop()));
    server.faults.clear();
    Object.assign(server.behaviour, { emptyPages: 0, repeatsItems: false, leaksChanges: false, order: "natural" });
  });
  after(() => server.stop());

  const watching = (wish: GraphWish = {}, { cursors = [] as Cursor[], probeMs = 60_000 } = {}) => {
    const watch = watchOn(graphMailboxOn(server, user, wish), graphDeps({ probeMs }), cursors);
    open.push(watch);
    return watch;
  };
  const arriving = (count: number) =>
    server.appendMany(
      user,
      "inbox",
      Array.from({ length: count }, (_, index) => numbered(index)),
    );
  /** Nothing that was handed over comes again within some rounds. */
  const rounds = () => server.requests.filter(({ operation }) => operation === "delta").length;
  const staysAt = async (watch: Watch, count: number) => {
    const now = rounds();
    await eventually(() => rounds() > now + 2, "some rounds");
    assert.equal(watch.messages().length, count);
  };

  for (const death of ["gone", "syncStateNotFound", "syncStateInvalid", "resyncRequired", "notSupported"] as const)
    test(`hands over each message once when its links die (${death})`, async () => {
      const first = watching();
      await first.connected();
      const names = await arriving(3);
      await first.until(3);
      await first.stop();
      names.push(...(await arriving(2)));
      server.killDeltaTokens(death, { user });
      const second = watching({}, { cursors: first.cursors() });
      await second.until(2);
      server.killDeltaTokens(death, { user });
      names.push(...(await arriving(1)));
      await second.until(3);
      await staysAt(second, 3);
      assert.deepEqual(keys([...first.messages(), ...second.messages()]), names.toSorted());
    });

  test("goes back to the last whole round when a link to a page dies", async () => {
    const names = await arriving(450);
    const first = watching({ since: "2001-01-01" });
    await first.until(1);
    await first.stop();
    server.killDeltaTokens("gone", { kind: "skip", user });
    const second = watching({ since: "2001-01-01" }, { cursors: first.cursors() });
    await second.until(names.length - first.messages().length);
    await second.connected();
    const all = [...first.messages(), ...second.messages()];
    assert.deepEqual(keys(all), names.toSorted());
  });

  test("hands over all of 5,001 messages, although a filtered comparison ends in silence after 5,000", async () => {
    const names = await arriving(5_001);
    const watch = watching({ since: new Date(Date.now() - DAY).toISOString() });
    await watch.until(5_001);
    await watch.connected();
    names.push(...(await arriving(2)));
    await watch.until(5_003);
    await staysAt(watch, 5_003);
    assert.deepEqual(keys(watch.messages()), names.toSorted());
  });

  test("finds a message that left its folder and came back, which the comparison forgets", async () => {
    const watch = watching({}, { probeMs: 50 });
    await watch.connected();
    const [id = ""] = await arriving(1);
    await watch.until(1);
    await watch.stop();
    const [other = ""] = await arriving(1);
    server.move(user, other, "archive");
    server.move(user, other, "inbox");
    const next = watching({}, { cursors: watch.cursors(), probeMs: 50 });
    assert.deepEqual(keys(await next.until(1)), [other]);
    server.move(user, id, "archive");
    server.move(user, id, "inbox");
    await staysAt(next, 1);
  });

  test("takes empty pages, repeated messages and pages in any order", async () => {
    Object.assign(server.behaviour, { emptyPages: 2, repeatsItems: true, order: "shuffled" });
    const watch = watching();
    await watch.connected();
    const names = await arriving(300);
    await watch.until(300);
    await staysAt(watch, 300);
    assert.deepEqual(keys(watch.messages()), names.toSorted());
  });

  test("takes no read message for a new one, and asks for what a page leaves out", async () => {
    const old = await server.append(user, "inbox", numbered(1), { receivedAt: new Date(Date.now() - 40 * DAY) });
    const justBefore = await server.append(user, "inbox", numbered(2), { receivedAt: new Date(Date.now() - 60_000) });
    server.behaviour.leaksChanges = true;
    const watch = watching();
    await watch.connected();
    const [id = ""] = await arriving(1);
    await watch.until(1);
    for (const one of [old, justBefore, id]) server.mark(user, one, { isRead: true });
    await staysAt(watch, 1);
    // The service was away, so the new message comes as a read one, with its read state alone.
    await watch.stop();
    const [unseen = ""] = await arriving(1);
    server.mark(user, unseen, { isRead: true });
    const next = watching({}, { cursors: watch.cursors() });
    assert.deepEqual(keys(await next.until(1)), [unseen]);
    await staysAt(next, 1);
  });

  test("leaves out drafts, and hands over what somebody moves into a watched folder", async () => {
    const watch = watching();
    await watch.connected();
    await server.append(user, "inbox", numbered(1), { isDraft: true });
    const id = await server.append(user, "archive", numbered(2));
    server.move(user, id, "inbox");
    assert.deepEqual(keys(await watch.until(1)), [id]);
    await staysAt(watch, 1);
  });

  test("lists messages by date while the mailbox is full, and says so", async () => {
    const watch = watching();
    await watch.connected();
    server.setMailbox(user, "full");
    const error = await watch.folderFault();
    assert.ok(isProblem("unavailable")(error) && /full/.test(String(error)), String(error));
    const names = await arriving(2);
    assert.deepEqual(keys(await watch.until(2)), names.toSorted());
    server.setMailbox(user, "ok");
    names.push(...(await arriving(1)));
    assert.deepEqual(keys(await watch.until(3)), names.toSorted());
    await staysAt(watch, 3);
    assert.equal(watch.signs.findLast((one) => one.kind === "folders")?.problem, null);
  });

  test("keeps to a folder that is renamed, and goes on without one that is deleted", async () => {
    const id = await server.createFolder(user, "A/B");
    const watch = watching({ folders: ["INBOX", String.raw`A\/B`] });
    await watch.connected();
    server.renameFolder(user, id, "Another");
    await server.append(user, id, numbered(1));
    assert.deepEqual(
      (await watch.until(1)).map(({ folder }) => folder),
      [id],
    );
    server.removeFolder(user, id);
    const error = await watch.folderFault();
    assert.ok(isProblem("folder")(error) && /A\/B|Another/.test(String(error)), String(error));
    await arriving(1);
    await watch.until(2);
  });

  const REFUSED = { status: 403, code: "ErrorAccessDenied" };
  for (const [what, fault] of [
    ["is refused", REFUSED],
    ["has an error of the server's", { status: 500, code: "ErrorInternalServerError" }],
    ["ends the connection", { cut: "before" }],
  ] as const)
    test(`a folder whose comparison ${what} stops no other, is named, and goes on when it can be compared`, async () => {
      const id = await server.createFolder(user, "Apart");
      server.faults.always("delta", fault, { user: server.addressOf(user), folder: id });
      const wish = { folders: ["Apart", "INBOX", "archive"], since: "2001-01-01" };
      const watch = watching(wish, { probeMs: 50 });
      await watch.connected();
      const problem = await watch.folderFault();
      assert.match(String(problem), /The folder "Apart" cannot be read: /);
      const names = [...(await arriving(2)), await server.append(user, "archive", numbered(8))];
      assert.deepEqual(keys(await watch.until(3)), names.toSorted());
      server.faults.clear();
      names.push(await server.append(user, id, numbered(9)));
      assert.deepEqual(keys(await watch.until(4)), names.toSorted());
      await eventually(
        () => watch.signs.findLast((one) => one.kind === "folders")?.problem === null,
        "the folder's fault is over",
      );
    });

  test("several folders in a row that have an error of the server's keep none behind them back", async () => {
    const names = ["A", "B", "C"];
    const about = { user: server.addressOf(user) };
    for (const name of names)
      server.faults.always(
        "delta",
        { status: 500, code: "ErrorInternalServerError" },
        {
          ...about,
          folder: await server.createFolder(user, name),
        },
      );
    const watch = watching({ folders: ["INBOX", ...names, "archive"], since: "2001-01-01" }, { probeMs: 50 });
    await watch.folderFault();
    const id = await server.append(user, "archive", numbered(1));
    assert.deepEqual(keys(await watch.until(1)), [id]);
  });

  test("a refusal of every folder is the mailbox's", async () => {
    server.faults.always("delta", REFUSED, { user: server.addressOf(user) });
    const error = await watching({ folders: ["INBOX", "archive"] }).ended();
    assert.ok(isProblem("access")(error), String(error));
  });

  test("a server that answers no folder ends the subscription", async () => {
    server.faults.always("delta", { cut: "before" }, { user: server.addressOf(user) });
    const error = await watching({ folders: ["INBOX", "archive", "sentitems"] }).ended();
    assert.ok(isProblem("connect")(error), String(error));
  });

  test("a login that may not list all messages of the mailbox receives those of its folders", async () => {
    const names = Array.from({ length: 7 }, (_, index) => `Shared ${index}`);
    const ids = await Promise.all(names.map((name) => server.createFolder(user, name)));
    server.faults.always("listAllMessages", REFUSED, { user: server.addressOf(user) });
    const watch = watching({ folders: names }, { probeMs: 50 });
    await watch.connected();
    const refused = () =>
      server.requests.some(({ operation, status }) => operation === "listAllMessages" && status === 403);
    await eventually(refused, "a refused list of all messages");
    const sent = await Promise.all(ids.map((id, index) => server.append(user, id, numbered(index))));
    assert.deepEqual(keys(await watch.until(7)), sent.toSorted());
  });

  test("watches the inbox of a mailbox in another language by Graph's own names", async () => {
    await server.addUser(`german${users}`, { language: "de" });
    user = `german${users}`;
    const watch = watching({ folders: ["inbox", "archive"] });
    await watch.connected();
    await server.append(user, "inbox", numbered(1));
    await server.append(user, "archive", numbered(2));
    const folders = (await watch.until(2)).map(({ folder }) => folder);
    assert.deepEqual(folders.toSorted(), ["INBOX", server.folderId(user, "archive")].toSorted());
  });

  test("finds a folder that is new where all are watched", async () => {
    const watch = watching({ folders: "all" }, { probeMs: 50 });
    await watch.connected();
    const id = await server.createFolder(user, "Orders", { parent: "inbox" });
    await server.append(user, id, numbered(1));
    assert.deepEqual(
      (await watch.until(1)).map(({ folder }) => folder),
      [id],
    );
    await server.append(user, id, numbered(2));
    await watch.until(2);
  });

  test("watches many folders with one request for all of them", async () => {
    const names = Array.from({ length: 12 }, (_, index) => `Folder ${index}`);
    for (const name of names) await server.createFolder(user, name);
    const watch = watching({ folders: "all" });
    await watch.connected();
    const earlier = server.requests.length;
    await server.append(user, "Folder 11", numbered(1));
    await watch.until(1);
    const asked = server.requests.slice(earlier).map(({ operation }) => operation);
    assert.ok(asked.includes("listAllMessages"), asked.join(" "));
    assert.ok(asked.filter((one) => one === "delta").length <= 4, asked.join(" "));
    await watch.stop();
  });

  test("does not follow a link to another server", async () => {
    const link = "https://evil.example/v1.0/users/x/mailFolders/y/messages/delta?$deltatoken=1";
    const body = JSON.stringify({ value: [], "@odata.nextLink": link });
    server.faults.once("delta", { after: { status: 200, body } });
    const error = await watching().ended();
    assert.ok(isProblem("protocol")(error) && /another server/.test(String(error)), String(error));
  });

  test("takes no page of a proxy for an empty folder", async () => {
    server.faults.once("delta", { status: 200, body: "<html>Please log in</html>" });
    const error = await watching().ended();
    assert.ok(isProblem("protocol")(error), String(error));
  });

  test("waits as long as Graph asks, in seconds with a fraction or until a date, and never asks five things at once", async () => {
    const watch = watching();
    await watch.connected();
    server.faults.once("delta", { status: 429, code: "ApplicationThrottled", retryAfter: "0.328" });
    const inTwo = new Date(Date.now() + 2_000).toUTCString();
    server.faults.once("delta", { status: 429, code: "TooManyRequests", retryAfter: inTwo });
    const names = await arriving(1);
    assert.deepEqual(keys(await watch.until(1)), names);
    assert.ok(server.mostAtOnce() <= 4, String(server.mostAtOnce()));
  });
});
