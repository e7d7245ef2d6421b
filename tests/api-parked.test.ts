/** What is parked, over HTTP: one place shows and replays all of it; and a mailbox that cannot be decrypted does not hide the others. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { Problem } from "../shared/contract/problem.ts";
import type { Task } from "../shared/contract/task.ts";
import { narrowMailbox } from "../shared/mail/defaults.ts";
import { UnreadableSecret } from "../shared/store/sealed-mailboxes.ts";
import { type ApiNode, startApi } from "./api-node.ts";
import { exampleBody } from "./bodies.ts";
import { deliveryOf } from "./promises/samples.ts";
import { eventually } from "./servers/waiting.ts";

const messages = [1, 2, 3].map((uid) => ({ folder: "INBOX", epoch: "1", uid, size: 1, receivedAt: "2026-01-01" }));
const TASKS: Task[] = [
  { version: 1, kind: "deliver", mailbox: "a", messages, again: false },
  { version: 1, kind: "callback", mailbox: "b" },
  { version: 1, kind: "redeliver", mailbox: "b", delivery: "msg_x" },
];

const fail = () => Promise.reject(new Problem("message", "It cannot be handled", { retry: "never" }));

describe("what is parked", () => {
  let node: ApiNode;
  before(async () => {
    node = await startApi();
    for (const id of ["a", "b"]) await node.call("PUT", `/api/v1/mailboxes/${id}`, exampleBody());
  });
  after(() => node.close());

  async function parkAll() {
    for (const task of TASKS) await node.queue.send(task);
    const stop = new AbortController();
    const running = node.queue.run(fail, { concurrency: 1 }, stop.signal);
    await eventually(async () => (await node.queue.depth()).parked === TASKS.length, "the parked tasks");
    stop.abort();
    await running;
    for (let n = 1; n <= 4; n++)
      await node.store.deliveries.save(
        deliveryOf(`msg_${n}`, { mailbox: n > 3 ? "b" : "a", state: "parked", reason: `reason ${n}` }),
        Buffer.from(`mail ${n}`),
      );
  }

  const all = async (query = "") => {
    const items = [];
    for (let next: string | null = ""; next !== null;) {
      const cursor = next && `&cursor=${encodeURIComponent(next)}`;
      const { status, body } = await node.call("GET", `/api/v1/parked?limit=2${query}${cursor}`);
      assert.equal(status, 200);
      items.push(...body.items);
      next = body.next;
    }
    return items;
  };

  test("is listed in one place, tasks and deliveries, page by page, with reasons", async () => {
    await parkAll();
    const items = await all();
    assert.deepEqual(
      items.map(({ kind, what, mailbox: at, messages: count }) => [kind, what, at, count]),
      [
        ["task", "deliver", "a", 3],
        ["task", "callback", "b", 0],
        ["task", "redeliver", "b", 1],
        ...["b", "a", "a", "a"].map((at) => ["delivery", "message", at, 1]),
      ],
    );
    assert.ok(items.every(({ reason, parkedAt, id }) => reason && parkedAt && id));
    const { body } = await node.call("GET", "/api/v1/parked?limit=1");
    assert.deepEqual([body.items.length, body.total], [1, 7]);
    assert.deepEqual((await all("&mailbox=b")).length, 3);
    for (const cursor of ["x", "t", "t-1", "dnonsense"])
      assert.equal((await node.call("GET", `/api/v1/parked?cursor=${cursor}`)).status, 422, cursor);
  });

  test("is counted where parked deliveries are listed, and by the metric", async () => {
    const { body } = await node.call("GET", "/api/v1/deliveries?state=parked");
    assert.deepEqual([body.total, body.parkedTasks], [4, 3]);
    assert.equal("parkedTasks" in (await node.call("GET", "/api/v1/deliveries")).body, false);
    const { text } = await node.call("GET", "/metrics");
    assert.match(text, /^email_listener_parked\{kind="delivery"\} 4$/m);
    assert.match(text, /^email_listener_parked\{kind="task"\} 3$/m);
    assert.match(text, /^email_listener_ready 1$/m);
  });

  test("is replayed by its ids, of one mailbox, or all of it", async () => {
    const ids = (await all()).filter(({ what, id }) => what === "callback" || id === "msg_1").map(({ id }) => id);
    const byIds = await node.call("POST", "/api/v1/parked/replay", { ids: [...ids, "nobody's"] });
    assert.deepEqual([byIds.status, byIds.body], [202, { replayed: 2 }]);
    assert.deepEqual((await all()).length, 5);
    assert.deepEqual((await node.call("POST", "/api/v1/parked/replay", { mailbox: "b" })).body, { replayed: 2 });
    assert.deepEqual((await node.call("POST", "/api/v1/parked/replay", {})).body, { replayed: 3 });
    assert.deepEqual(await all(), []);
    const kinds = (await node.tasks(7)).map(({ kind }) => kind).toSorted();
    assert.deepEqual(kinds, ["callback", "deliver", ...Array.from({ length: 5 }, () => "redeliver")]);
  });
});

describe("a mailbox whose credentials cannot be decrypted", () => {
  let node: ApiNode;
  before(async () => {
    node = await startApi();
    for (const id of ["good", "lost"]) await node.call("PUT", `/api/v1/mailboxes/${id}`, exampleBody());
    const missing = new Problem("config", 'The encryption key "k0" is missing', { retry: "never" });
    await node.store.mailboxes.amend({ id: "lost" }, (stored) => {
      const password = new UnreadableSecret("enc:1:k0:AAAAAAAAAAAAAAAA:AAAAAAAAAAAAAAAAAAAAAAAA", missing);
      return { ...stored, receive: { ...narrowMailbox(stored, "imap").receive, auth: { user: "u", password } } };
    });
  });
  after(() => node.close());

  test("is listed with the others, and says so as its problem", async () => {
    const { status, body } = await node.call("GET", "/api/v1/mailboxes");
    assert.equal(status, 200);
    assert.deepEqual(
      body.items.map(({ id, state }: any) => [id, state.status, state.problem?.code]),
      [
        ["good", "initializing", undefined],
        ["lost", "needs_attention", "config"],
      ],
    );
    const { state } = (await node.call("GET", "/api/v1/mailboxes/lost")).body;
    assert.match(state.problem.cause, /"k0" is missing/);
    assert.equal((await node.call("GET", "/api/v1/diagnostics")).status, 200);
    assert.equal((await node.call("GET", "/metrics")).status, 200);
  });

  test("is paused and removed as any other, and replaced by one with new credentials", async () => {
    assert.equal((await node.call("POST", "/api/v1/mailboxes/lost/pause")).status, 200);
    assert.equal((await node.call("PUT", "/api/v1/mailboxes/lost", exampleBody())).status, 200);
    const { state } = (await node.call("GET", "/api/v1/mailboxes/lost")).body;
    assert.equal(state.problem, null);
    assert.equal((await node.call("DELETE", "/api/v1/mailboxes/lost")).status, 204);
  });
});
