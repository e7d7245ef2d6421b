/** The embedded queue: held to the promises of every queue, and to those its file makes. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { sqliteQueue } from "../shared/queue/sqlite/queue.ts";
import type { Task } from "../shared/contract/task.ts";
import type { TaskFailure } from "../shared/queue/queue.ts";
import { openDatabase } from "../shared/store/sqlite/database.ts";
import { backoffs } from "../shared/time.ts";
import { isStoreAway } from "./promises/node-faults.ts";
import { nameOf, placeAt, queuePromises, taskOf, working } from "./promises/queues.ts";
import { eventually } from "./servers/waiting.ts";

const directory = mkdtempSync(join(tmpdir(), "email-listener-queues-"));
after(() => rmSync(directory, { recursive: true }));
let files = 0;
const newPath = () => join(directory, `${++files}`, "store.db");

function open(path: string, graceMs = 10_000) {
  const database = openDatabase(path);
  const failures: TaskFailure[] = [];
  const onFailed = (failure: TaskFailure) => void failures.push(failure);
  const tasks = sqliteQueue({ database, backoff: backoffs(0.01), onFailed, isNodeFault: isStoreAway, graceMs });
  return { database, tasks, failures, close: async () => database.close() };
}

queuePromises("inline queue in a sqlite file", () => placeAt({ path: newPath() }, true));
queuePromises("inline queue in memory", () => ({ open: async () => open(":memory:") }));

describe("inline queue", () => {
  test("what does not finish in the grace of a stop stays in the queue, and its late outcome is ignored", async () => {
    const queue = open(newPath(), 30);
    await queue.tasks.send(taskOf("slow"));
    const late = Promise.withResolvers<void>();
    let begun = 0;
    const work = working(queue, async () => {
      begun++;
      await late.promise;
      return { kind: "done" };
    });
    await eventually(() => begun === 1, "the task in flight");
    await work.stop();
    assert.deepEqual(await queue.tasks.depth(), { ready: 1, delayed: 0, running: 0, parked: 0 });
    late.resolve();
    await sleep(10);
    assert.deepEqual(await queue.tasks.depth(), { ready: 1, delayed: 0, running: 0, parked: 0 });
    await queue.close();
  });

  test("a task that only a newer version can read is kept and reported, and stops nothing", async () => {
    const queue = open(newPath());
    await queue.tasks.send(taskOf("newer"));
    const newer = JSON.stringify({ version: 2, kind: "translate", mailbox: "a" });
    queue.database.run("update tasks set task = ?", newer);
    await queue.tasks.send(taskOf("t"));
    const seen: string[] = [];
    const work = working(queue, async (task) => {
      seen.push(nameOf(task));
      return { kind: "done" };
    });
    await eventually(() => seen.length === 1 && queue.failures.length === 1, "the readable task and the report");
    await work.stop();
    assert.deepEqual(seen, ["t"]);
    assert.equal(queue.failures[0]?.task, null);
    assert.equal(queue.failures[0]?.mailbox, "a");
    assert.ok(queue.failures[0]?.retryAt !== null);
    assert.deepEqual(await queue.tasks.depth(), { ready: 0, delayed: 1, running: 0, parked: 0 });
    assert.deepEqual(
      queue.database.all("select task, attempt from tasks").map((row) => ({ ...row })),
      [{ task: newer, attempt: 1 }],
    );
    await queue.close();
  });

  test("tasks that 0.1 stored under the kinds of then are performed under those of now", async () => {
    const queue = open(newPath());
    await queue.tasks.send(taskOf("t"));
    const now = Date.now();
    const rest = { version: 1, mailbox: "a" };
    const stored = [
      {
        ...rest,
        kind: "tidy",
        messages: [{ folder: "INBOX", epoch: "1", uid: 7, size: 9, receivedAt: "2026-03-01T00:00:00.000Z" }],
      },
      { ...rest, kind: "tell" },
      { ...rest, kind: "load", since: "2026-03-01T00:00:00.000Z", messageIds: [] },
    ];
    for (const task of stored) {
      const sql = "insert into tasks (lane, task, due_at, attempt, created_at) values ('a', ?, ?, 0, ?)";
      queue.database.run(sql, JSON.stringify(task), now, now);
    }
    const seen: Task[] = [];
    const work = working(queue, async (task) => {
      if (task.kind !== "redeliver") seen.push(task);
      return { kind: "done" };
    });
    await eventually(() => seen.length === 3, "the tasks of 0.1");
    await work.stop();
    const kinds = ["afterDelivery", "callback", "synchronize"];
    assert.deepEqual(
      seen.toSorted((one, other) => one.kind.localeCompare(other.kind)),
      stored.map((task, n) => ({ ...task, kind: kinds[n] })),
    );
    assert.deepEqual(queue.failures, []);
    await queue.close();
  });

  test("while the outcome of a task cannot be written, the task is not performed again, and the fault is reported", async () => {
    const path = newPath();
    const queue = open(path);
    await queue.tasks.send(taskOf("t"));
    let tries = 0;
    const work = working(queue, async () => {
      tries++;
      queue.database.run("create trigger broken before delete on tasks begin select raise(abort, 'disk fault'); end");
      return { kind: "done" };
    });
    await eventually(() => queue.failures.length === 1, "the report");
    assert.equal(queue.failures[0]?.problem.code, "store");
    await work.stop();
    assert.equal(tries, 1);
    await queue.close();
  });

  test("it is run by one at a time", async () => {
    const queue = open(":memory:");
    const work = working(queue, async () => ({ kind: "done" }));
    await assert.rejects(
      queue.tasks.run(async () => ({ kind: "done" }), { concurrency: 1 }, AbortSignal.abort()),
      {
        code: "internal",
      },
    );
    await work.stop();
    await queue.close();
  });
});
