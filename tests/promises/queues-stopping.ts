/** What every queue promises about stops and restarts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Problem } from "../../shared/contract/problem.ts";
import { eventually } from "../servers/waiting.ts";
import { gated, nameOf, type NewQueuePlace, settled, taskOf, withQueue, working } from "./queues.ts";

const done = { kind: "done" } as const;

export function stoppingAndStarting(make: NewQueuePlace): void {
  test("a stop aborts what is in flight, starts nothing more, and counts as no attempt", () =>
    withQueue(make, async (queue) => {
      const { perform, begun } = gated();
      for (const name of ["one", "two", "three"]) await queue.tasks.send(taskOf(name));
      const first = working(queue, perform, 8);
      await eventually(() => begun.length === 2, "two tasks in flight");
      await first.stop();
      assert.deepEqual(begun, ["one", "two"]);
      assert.deepEqual(queue.failures, []);
      await settled(queue, { ready: 3, delayed: 0, running: 0 });
      const seen: [string, number][] = [];
      const second = working(queue, async (task, attempt) => {
        seen.push([nameOf(task), attempt]);
        return done;
      });
      await eventually(() => seen.length === 3, "all tasks");
      await second.stop();
      assert.deepEqual(seen.toSorted(), [
        ["one", 1],
        ["three", 1],
        ["two", 1],
      ]);
    }));

  test("a stop waits for work that finishes in spite of it, which is then done", () =>
    withQueue(make, async (queue) => {
      await queue.tasks.send(taskOf("t"));
      let begun = false;
      const work = working(queue, async (_task, _attempt, signal) => {
        begun = true;
        while (!signal.aborted) await sleep(5);
        await sleep(50);
        return done;
      });
      await eventually(() => begun, "the task in flight");
      await work.stop();
      await settled(queue, { ready: 0, delayed: 0, running: 0 });
    }));

  test("waiting tasks and their attempts survive a restart", async (t) => {
    const place = make();
    if (!place.address) return t.diagnostic("skipped: this queue keeps nothing, by choice");
    const first = await place.open();
    const dueAt = new Date(Date.now() + 3_000);
    await first.tasks.send(taskOf("delayed"), { notBefore: dueAt });
    await first.tasks.send(taskOf("failing"));
    const work = working(first, async () => {
      throw new Problem("throttled", "wait", { retry: dueAt });
    });
    await eventually(() => first.failures.length === 1, "the first failure");
    await work.stop();
    await first.close();
    const second = await place.open();
    await eventually(async () => {
      const { ready, delayed } = await second.tasks.depth();
      return ready + delayed === 2;
    }, "both tasks waiting");
    const seen: [string, number][] = [];
    const again = working(second, async (task, attempt) => {
      assert.ok(Date.now() >= dueAt.getTime());
      seen.push([nameOf(task), attempt]);
      return done;
    });
    await eventually(() => seen.length === 2, "both tasks");
    await again.stop();
    assert.deepEqual(seen.toSorted(), [
      ["delayed", 1],
      ["failing", 2],
    ]);
    await second.close();
  });
}
