/** What the API does with mail on behalf of a person: folders, preflight, resync, raw bytes, deliveries and their replay. */
import assert from "node:assert/strict";
import { createServer } from "node:net";
import { after, before, describe, test } from "node:test";
import type { DeliverTask } from "../shared/contract/task.ts";
import { type ApiNode, delivery, ref, startApi } from "./api-node.ts";
import { exampleBody, imapBody } from "./bodies.ts";
import { type ImapServer, startImapServer } from "./servers/imap/server.ts";
import { numbered } from "./servers/mail.ts";

describe("on a mail server", () => {
  let node: ApiNode;
  let server: ImapServer;
  const body = (auth = { user: "help", password: "pass" }) => imapBody(server, "help", { receive: { auth } });
  before(async () => {
    [node, server] = await Promise.all([startApi(), startImapServer({ users: { help: "pass" }, tls: null })]);
    await node.call("PUT", "/api/v1/mailboxes/m1", body());
    await node.call("PUT", "/api/v1/mailboxes/wrong", body({ user: "help", password: "wr0ng" }));
  });
  after(() => Promise.all([node.close(), server.stop()]));

  test("folders are listed as the server has them", async () => {
    await server.createFolder("help", "Projekte/Straße");
    const { status, body: answer } = await node.call("GET", "/api/v1/mailboxes/m1/folders");
    assert.equal(status, 200);
    const paths = answer.items.map((folder: { path: string }) => folder.path);
    assert.ok(paths.includes("INBOX") && paths.some((path: string) => path.endsWith("Straße")), String(paths));
  });

  test("a refused login is a 422 with cause, remedy and the server's words, not the password", async () => {
    const reply = await node.call("GET", "/api/v1/mailboxes/wrong/folders");
    assert.deepEqual([reply.status, reply.body.code], [422, "auth"]);
    assert.ok(reply.body.fix.length > 0 && !reply.text.includes("wr0ng"));
  });

  test("validate reports each step and stores nothing, and is 200 also when a step fails", async () => {
    const good = await node.call("POST", "/api/v1/mailboxes/validate", body());
    assert.deepEqual([good.status, good.body.ok], [200, true], good.text);
    assert.ok(good.body.steps.some((step: { name: string; ok: boolean }) => step.name === "login" && step.ok));
    const bad = await node.call("POST", "/api/v1/mailboxes/validate", body({ user: "help", password: "wr0ng" }));
    assert.deepEqual([bad.status, bad.body.ok], [200, false]);
    const failed = bad.body.steps.find((step: { ok: boolean }) => !step.ok);
    assert.equal(failed.name, "login");
    assert.ok(failed.cause && failed.fix && !bad.text.includes("wr0ng"));
    assert.equal((await node.call("POST", "/api/v1/mailboxes/validate", { address: 1 })).status, 422);
    assert.equal((await node.store.mailboxes.list({ limit: 1 })).total, 2);
  });

  test("resync hands every message since the date over in batches of at most a hundred", async () => {
    await server.appendMany(
      "help",
      "INBOX",
      Array.from({ length: 230 }, (_, i) => numbered(i)),
    );
    const reply = await node.call("POST", "/api/v1/mailboxes/m1/resync", { since: "2020-01-01" });
    assert.deepEqual([reply.status, reply.body], [202, { messages: 230 }]);
    const tasks = (await node.tasks(3)) as DeliverTask[];
    assert.ok(tasks.every((task) => task.kind === "deliver" && task.mailbox === "m1" && !task.again));
    assert.ok(tasks.every((task) => task.messages.length <= 100));
    const uids = tasks.flatMap((task) => task.messages.map((message) => message.uid));
    assert.equal(new Set(uids).size, 230);
    const first = tasks[0]?.messages[0];
    assert.ok(first);
    assert.deepEqual(await node.store.ledger.claim("m1", [first], 1000), ["yours"]);
    assert.ok(node.told.some((fact) => fact.kind === "mailbox.resync" && fact.messages === 230));
  });

  test("resync with redeliver asks for what was delivered too, and of a later date for nothing", async () => {
    await node.call("POST", "/api/v1/mailboxes/m1/resync", { since: "2020-01-01T00:00:00Z", redeliver: true });
    assert.ok(((await node.tasks(3)) as DeliverTask[]).every((task) => task.again));
    const later = await node.call("POST", "/api/v1/mailboxes/m1/resync", { since: "2999-01-01" });
    assert.deepEqual(later.body, { messages: 0 });
    assert.equal((await node.call("POST", "/api/v1/mailboxes/m1/resync", { since: "yesterday" })).status, 422);
  });

  test("raw comes from the spool, else from the server, byte for byte; a message that is gone is 404", async () => {
    const raw = numbered(9999);
    const uid = await server.append("help", "INBOX", raw);
    const epoch = String(server.messages("help", "INBOX").length > 0 ? await epochOf() : "");
    const there = { ...ref(uid), epoch };
    await node.store.deliveries.save(delivery("msg_there", { state: "delivered", ref: there, spooled: false }));
    await node.store.deliveries.save(delivery("msg_kept", { ref: ref(999_999) }), Buffer.from("kept bytes"));
    const bytes = async (id: string) => {
      const response = await fetch(`${node.url}/api/v1/messages/${id}/raw`);
      return { response, bytes: Buffer.from(await response.arrayBuffer()) };
    };
    const fetched = await bytes("msg_there");
    assert.equal(fetched.response.headers.get("content-type"), "message/rfc822");
    assert.match(fetched.response.headers.get("content-disposition") ?? "", /^attachment; filename="msg_there.eml"$/);
    assert.deepEqual(fetched.bytes, raw);
    assert.equal((await bytes("msg_kept")).bytes.toString(), "kept bytes");
    await server.expunge("help", "INBOX", uid);
    const gone = await node.call("GET", "/api/v1/messages/msg_there/raw");
    assert.deepEqual([gone.status, gone.body.code], [404, "gone"]);
    assert.equal((await node.call("GET", "/api/v1/messages/msg_none/raw")).status, 404);
  });

  test("a stop in the middle of a visit is a 503, not a fault of ours", async () => {
    const silent = createServer((socket) => socket.on("error", () => {}));
    await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
    const stopping = await startApi();
    try {
      const address = silent.address();
      assert.ok(address !== null && typeof address === "object");
      const receive = { ...body().receive, port: address.port };
      await stopping.call("PUT", "/api/v1/mailboxes/m1", exampleBody({ receive }));
      const connected = new Promise((resolve) => silent.once("connection", resolve));
      const reply = stopping.call("GET", "/api/v1/mailboxes/m1/folders");
      await connected;
      stopping.stop();
      assert.deepEqual([(await reply).status, (await reply).body.code], [503, "unavailable"]);
      assert.ok(!stopping.told.some((fact) => fact.kind === "service.failed"));
    } finally {
      await stopping.close();
      silent.close();
    }
  });

  async function epochOf(): Promise<string> {
    await node.call("POST", "/api/v1/mailboxes/m1/resync", { since: "2020-01-01" });
    const [task] = (await node.tasks(3)) as DeliverTask[];
    return task?.messages[0]?.epoch ?? "";
  }
});

describe("deliveries", () => {
  let node: ApiNode;
  before(async () => {
    node = await startApi();
    for (const id of ["m1", "m2"]) await node.call("PUT", `/api/v1/mailboxes/${id}`, exampleBody());
    const raw = Buffer.from("raw");
    const { deliveries } = node.store;
    for (let i = 1; i <= 5; i++) await deliveries.save(delivery(`msg_p${i}`, { ref: ref(i) }), raw);
    await deliveries.save(delivery("msg_other", { mailbox: "m2" }), raw);
    const later = "2026-11-22T06:00:00.000Z";
    await deliveries.save(delivery("msg_retry", { ref: ref(10), state: "retrying", nextAttemptAt: later }), raw);
    for (const uid of [20, 21]) {
      const done = { state: "delivered", reason: null, spooled: false, createdAt: later } as const;
      await deliveries.save(delivery(`msg_d${uid}`, { ...done, ref: ref(uid) }));
    }
  });
  after(() => node.close());
  test("are listed by state and mailbox, in pages, without their attempts", async () => {
    const parked = (await node.call("GET", "/api/v1/deliveries?state=parked&mailbox=m1&limit=3")).body;
    assert.deepEqual([parked.items.length, parked.total], [3, 5]);
    assert.equal("attempts" in parked.items[0], false);
    const rest = `/api/v1/deliveries?state=parked&mailbox=m1&limit=3&cursor=${encodeURIComponent(parked.next)}`;
    const last = (await node.call("GET", rest)).body;
    assert.equal(last.next, null);
    assert.equal(new Set([...parked.items, ...last.items].map((item: { id: string }) => item.id)).size, 5);
    assert.equal((await node.call("GET", "/api/v1/deliveries")).body.total, 9);
    assert.equal((await node.call("GET", "/api/v1/deliveries?state=lost")).status, 422);
  });

  test("are read one by one with their attempts, as messages too", async () => {
    const reply = await node.call("GET", "/api/v1/deliveries/msg_p1");
    assert.equal(reply.body.attempts[0].status, 500);
    assert.deepEqual((await node.call("GET", "/api/v1/messages/msg_p1")).body, reply.body);
    assert.equal((await node.call("GET", "/api/v1/deliveries/none")).status, 404);
  });

  test("are replayed from the spool when parked or retrying, from the mail server when delivered", async () => {
    for (const id of ["msg_p1", "msg_retry", "msg_d20"]) {
      assert.equal((await node.call("POST", `/api/v1/deliveries/${id}/replay`)).status, 202, id);
    }
    const tasks = await node.tasks(3);
    assert.deepEqual(tasks.flatMap((task) => (task.kind === "redeliver" ? [task.delivery] : [])).toSorted(), [
      "msg_p1",
      "msg_retry",
    ]);
    const again = tasks.filter((task) => task.kind === "deliver");
    assert.deepEqual(
      again.map((task) => [task.again, task.messages.map(({ uid }) => uid)]),
      [[true, [20]]],
    );
    assert.equal((await node.call("POST", "/api/v1/deliveries/none/replay")).status, 404);
  });

  test("are replayed together: the parked ones unless told otherwise, of one mailbox or all", async () => {
    const replay = (body: unknown) => node.call("POST", "/api/v1/deliveries/replay", body);
    assert.deepEqual((await replay({ since: "2026-11-22T05:30:00Z" })).body, { replayed: 0 });
    const one = await replay({ since: "2026-11-01", mailbox: "m2" });
    assert.deepEqual([one.status, one.body], [202, { replayed: 1 }]);
    // One of the five was replayed above, and is no longer parked.
    assert.deepEqual((await replay({ since: "2026-11-01" })).body, { replayed: 4 });
    assert.equal((await node.tasks(5)).length, 5);
    assert.equal((await node.call("GET", "/api/v1/deliveries?state=parked")).body.total, 0);
    assert.deepEqual((await replay({ since: "2026-11-01", state: "delivered" })).body, { replayed: 2 });
    const [task] = (await node.tasks(1)) as DeliverTask[];
    assert.deepEqual(task?.messages.map(({ uid }) => uid).toSorted(), [20, 21]);
    assert.equal((await replay({ since: "2026-11-01", mailbox: "none" })).status, 404);
    assert.equal((await replay({})).status, 422);
  });
});
