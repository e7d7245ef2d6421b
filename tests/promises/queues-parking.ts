/** What every queue promises about tasks that failed for good: they are kept, shown, put back to work, and dropped by a person only. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import type { ParkedTask } from "../../shared/queue/queue.ts";
import { eventually } from "../servers/waiting.ts";
import { nameOf, type NewQueuePlace, type OpenQueue, settled, taskOf, withQueue, working } from "./queues.ts";

const done = { kind: "done" } as const;

/** Sends tasks of these names and has each of them fail for good. */
function parkAll(queue: OpenQueue, names: string[]): Promise<void> {
  return parkTasks(
    queue,
    names.map((name) => taskOf(name)),
  );
}

async function parkTasks(queue: OpenQueue, tasks: Task[]): Promise<void> {
  for (const task of tasks) await queue.tasks.send(task);
  const work = working(queue, async () => {
    throw new Problem("message", "cannot be handled", { retry: "never" });
  });
  await eventually(async () => (await queue.tasks.depth()).parked === tasks.length, "the parked tasks");
  await work.stop();
}

/** What is parked, once there are so many: a broker shows what was looked at again a moment later. */
function parkedOf(queue: OpenQueue, count: number): Promise<ParkedTask[]> {
  return eventually(async () => {
    const all = await queue.tasks.parked(100);
    return all.length === count && all;
  }, `${count} parked tasks`);
}

const namesOf = (parked: ParkedTask[]) => parked.map(({ task }) => task && nameOf(task)).toSorted();

async function performAll(queue: OpenQueue, count: number): Promise<[string, number][]> {
  const seen: [string, number][] = [];
  const work = working(queue, async (task, attempt) => {
    seen.push([nameOf(task), attempt]);
    return done;
  });
  await eventually(() => seen.length === count, "the replayed tasks");
  await work.stop();
  return seen.toSorted();
}

export function parking(make: NewQueuePlace): void {
  test("a task that is given up is parked with its reason, is listed again and again, and is as new when it is replayed", () =>
    withQueue(make, async (queue) => {
      await parkAll(queue, ["bad"]);
      for (let look = 0; look < 3; look++) {
        const [found] = await parkedOf(queue, 1);
        assert.deepEqual([found?.task, found?.reason, found?.tries], [taskOf("bad"), "cannot be handled", 1]);
        assert.ok(Date.parse(found?.parkedAt ?? "") <= Date.now());
      }
      await settled(queue, { ready: 0, delayed: 0, running: 0, parked: 1 });
      assert.equal(await queue.tasks.replayParked(), 1);
      assert.deepEqual(await performAll(queue, 1), [["bad", 1]]);
      assert.deepEqual(await queue.tasks.parked(10), []);
      await settled(queue, { ready: 0, delayed: 0, running: 0, parked: 0 });
    }));

  test("those of the mailboxes with a prefix are found, however many others were parked before", () =>
    withQueue(make, async (queue) => {
      const others = Array.from({ length: 150 }, (_, n) => taskOf(`other-${n}`, n % 2 ? "acme" : "other"));
      await parkTasks(queue, [...others, ...[1, 2, 3].map((n) => taskOf(`own-${n}`, `acme-${n}`))]);
      const found = await eventually(async () => {
        const own = await queue.tasks.parked(100, "acme-");
        return own.length === 3 && own;
      }, "the parked tasks of a prefix");
      assert.deepEqual(namesOf(found), ["own-1", "own-2", "own-3"]);
      await eventually(async () => (await queue.tasks.parked(2, "acme-")).length === 2, "the first two");
      await eventually(async () => (await queue.tasks.parked(200, "")).length === 153, "all of them");
      assert.deepEqual(await queue.tasks.parked(100, "acme-4"), []);
    }));

  test("a task that fails because of its node is given back as it was, however often, and is never parked", () =>
    withQueue(make, async (queue) => {
      await queue.tasks.send(taskOf("innocent"));
      const attempts: number[] = [];
      const work = working(queue, async (_, attempt) => {
        attempts.push(attempt);
        if (attempts.length <= 5) throw new Problem("store", "Redis is away");
        if (attempts.length === 6) throw new Problem("connect", "The endpoint is away");
        return done;
      });
      await eventually(() => attempts.length === 7, "the task after its node was well again");
      await work.stop();
      assert.deepEqual(attempts, [1, 1, 1, 1, 1, 1, 2]);
      await settled(queue, { ready: 0, delayed: 0, running: 0, parked: 0 });
      assert.equal(queue.failures.length, 6);
      assert.ok(queue.failures.every(({ retryAt }) => retryAt !== null));
    }));

  test("a wrong setting parks no task at once: a person can mend it without the task", () =>
    withQueue(make, async (queue) => {
      await queue.tasks.send(taskOf("innocent"));
      let attempts = 0;
      const work = working(queue, async () => {
        if (++attempts < 3) throw new Problem("config", "The key is missing", { retry: "never" });
        return done;
      });
      await eventually(() => attempts === 3, "the task after the setting was mended");
      await work.stop();
      await settled(queue, { ready: 0, delayed: 0, running: 0, parked: 0 });
    }));

  test("parked tasks are replayed and dropped by their ids, the others stay", () =>
    withQueue(make, async (queue) => {
      await parkAll(queue, ["a", "b", "c"]);
      const found = await parkedOf(queue, 3);
      const idOf = (name: string) => found.find(({ task }) => task && nameOf(task) === name)?.id ?? "";
      assert.equal(await queue.tasks.dropParked([idOf("a"), "nobody's"]), 1);
      assert.equal(await queue.tasks.replayParked([idOf("b"), "nobody's"]), 1);
      assert.deepEqual(await performAll(queue, 1), [["b", 1]]);
      assert.deepEqual(namesOf(await parkedOf(queue, 1)), ["c"]);
      assert.equal(await queue.tasks.replayParked(["nobody's"]), 0);
    }));

  test("only so many parked tasks are listed as are asked for, and all are replayed at once", () =>
    withQueue(make, async (queue) => {
      const names = Array.from({ length: 30 }, (_, n) => `t${String(n).padStart(2, "0")}`);
      await parkAll(queue, names);
      assert.equal((await queue.tasks.parked(7)).length, 7);
      assert.deepEqual(namesOf(await parkedOf(queue, 30)), names);
      assert.equal(await queue.tasks.replayParked(), 30);
      const seen = await performAll(queue, 30);
      assert.deepEqual(
        seen.map(([name]) => name),
        names,
      );
    }));

  test("parked tasks survive a restart", async (t) => {
    const place = make();
    if (!place.address) return t.diagnostic("skipped: this queue keeps nothing, by choice");
    const first = await place.open();
    await parkAll(first, ["a", "b"]);
    await first.close();
    const second = await place.open();
    assert.deepEqual(namesOf(await parkedOf(second, 2)), ["a", "b"]);
    assert.equal(await second.tasks.dropParked((await parkedOf(second, 2)).map(({ id }) => id)), 2);
    await settled(second, { ready: 0, delayed: 0, running: 0, parked: 0 });
    await second.close();
  });
}
