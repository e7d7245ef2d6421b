/** The embedded queue: held to the promises of every queue, and to those its file makes. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { inlineQueue } from "../shared/queue/sqlite/queue.ts";
import type { TaskFailure } from "../shared/queue/queue.ts";
import { openDatabase } from "../shared/store/sqlite/database.ts";
import { backoffs } from "../shared/time.ts";
import { nameOf, queuePromises, type QueuePlace, taskOf, working } from "./promises/queues.ts";
import { eventually } from "./servers/waiting.ts";

const directory = mkdtempSync(join(tmpdir(), "email-listener-queues-"));
after(() => rmSync(directory, { recursive: true }));
let files = 0;
const newPath = () => join(directory, `${++files}`, "store.db");

function open(path: string, graceMs = 10_000) {
  const database = openDatabase(path);
  const failures: TaskFailure[] = [];
  const onFailed = (failure: TaskFailure) => void failures.push(failure);
  const tasks = inlineQueue({ database, backoff: backoffs(0.01), onFailed, graceMs });
  return { database, tasks, failures, close: async () => database.close() };
}

function placeAt(path: string): QueuePlace {
  return { keeps: path !== ":memory:", open: async () => open(path) };
}

queuePromises("inline queue in a sqlite file", () => placeAt(newPath()));
queuePromises("inline queue in memory", () => placeAt(":memory:"));

const child = fileURLToPath(new URL("./children/queue.ts", import.meta.url));

/** Sends or performs tasks in a process of its own until it was heard `enough` times, then kills it. Returns what it said. */
async function killedAfter(enough: number, path: string, mode: "send" | "perform"): Promise<string[]> {
  const runtime = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];
  const started = spawn(process.execPath, [...runtime, child, path, mode], { stdio: ["ignore", "pipe", "inherit"] });
  let said = "";
  started.stdout.setEncoding("utf8");
  started.stdout.on("data", (text: string) => {
    said += text;
    if (said.split("\n").length > enough) started.kill("SIGKILL");
  });
  await once(started, "close");
  return said.split("\n").slice(0, -1);
}

describe("inline queue", () => {
  test("kill -9 loses no task that was sent and none that was being performed", async () => {
    const path = newPath();
    const sent = await killedAfter(100, path, "send");
    assert.ok(sent.length >= 100);
    const begun = await killedAfter(30, path, "perform");
    const queue = open(path);
    const { ready } = await queue.tasks.depth();
    const seen = new Set<string>();
    const work = working(queue, async (task) => {
      seen.add(nameOf(task));
      return { kind: "done" };
    });
    await eventually(async () => (await queue.tasks.depth()).ready === 0 && seen.size === ready, "all that was left");
    await work.stop();
    await queue.close();
    const finished = new Set(begun.filter((line) => line.startsWith("done ")).map((line) => line.slice(5)));
    for (const name of sent) assert.ok(seen.has(name) || finished.has(name), `${name} is lost`);
    const interrupted = begun.filter((line) => line.startsWith("begun ")).map((line) => line.slice(6));
    assert.ok(interrupted.some((name) => !finished.has(name) && seen.has(name)));
  });

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
    assert.deepEqual(await queue.tasks.depth(), { ready: 1, delayed: 0, running: 0 });
    late.resolve();
    await sleep(10);
    assert.deepEqual(await queue.tasks.depth(), { ready: 1, delayed: 0, running: 0 });
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
    assert.deepEqual(await queue.tasks.depth(), { ready: 0, delayed: 1, running: 0 });
    assert.deepEqual(
      queue.database.all("select task, attempt from tasks").map((row) => ({ ...row })),
      [{ task: newer, attempt: 0 }],
    );
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
