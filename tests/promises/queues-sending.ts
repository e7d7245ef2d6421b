/** What every queue promises to those who send: durable at once, whatever its time is, and whoever sends it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Task } from "../../shared/contract/task.ts";
import { eventually } from "../servers/waiting.ts";
import { gated, nameOf, type NewQueuePlace, type OpenQueue, settled, taskOf, withQueue, working } from "./queues.ts";

const done = { kind: "done" } as const;
const DAY_MS = 24 * 3_600_000;
const inDays = (days: number) => new Date(Date.now() + days * DAY_MS);

export function sending(make: NewQueuePlace): void {
  test("tasks that send tasks while they are performed wait for nobody: a hundred at once, each with two more", () =>
    withQueue(make, async (queue) => {
      const seen = new Set<string>();
      const work = working(queue, async (task) => {
        const name = nameOf(task);
        if (name.startsWith("outer"))
          await Promise.all(["a", "b"].map((part) => queue.tasks.send(taskOf(`inner ${name} ${part}`, task.mailbox))));
        seen.add(name);
        return done;
      });
      await Promise.all(Array.from({ length: 100 }, (_, n) => queue.tasks.send(taskOf(`outer ${n}`, `m${n % 10}`))));
      await eventually(() => seen.size === 300, "the outer and the inner tasks");
      await work.stop();
      await settled(queue, { ready: 0, delayed: 0, running: 0 });
    }));

  test("eight tasks that hang keep nobody from sending", () =>
    withQueue(make, async (queue) => {
      const { perform, begun } = gated();
      for (let n = 0; n < 8; n++) await queue.tasks.send(taskOf(`hanging ${n}`, `m${n}`));
      const work = working(queue, perform);
      await eventually(() => begun.length === 8, "all places taken");
      await Promise.all(Array.from({ length: 20 }, (_, n) => queue.tasks.send(taskOf(`t${n}`, `n${n}`))));
      await settled(queue, { ready: 20, delayed: 0, running: 8 });
      await work.stop();
    }));

  test("a task for days later is durable at once, waits through a restart, and holds up no other", async () => {
    const place = make();
    const first = await place.open();
    const days = [7, 60];
    for (const count of days) await first.tasks.send(taskOf(`in ${count} days`), { notBefore: inDays(count) });
    const again = place.address ? (await first.close(), await place.open()) : first;
    const seen: string[] = [];
    const work = working(again, async (task) => {
      seen.push(nameOf(task));
      return done;
    });
    await again.tasks.send(taskOf("in a second"), { notBefore: new Date(Date.now() + 1_000) });
    await again.tasks.send(taskOf("now"));
    await eventually(() => seen.length === 2, "those that are due");
    assert.deepEqual(seen, ["now", "in a second"]);
    await settled(again, { ready: 0, delayed: 2, running: 0 });
    await work.stop();
    await again.close();
  });

  test("an aborted signal ends a send with its reason, and nothing is sent", () =>
    withQueue(make, async (queue) => {
      const reason = new Error("no longer wanted");
      await assert.rejects(queue.tasks.send(taskOf("t"), {}, AbortSignal.abort(reason)), reason);
      await queue.tasks.send(taskOf("t"), {}, new AbortController().signal);
      await settled(queue, { ready: 1, delayed: 0, running: 0 });
    }));

  test("tasks of one mailbox are performed in the order of their due times", () =>
    withQueue(make, async (queue) => {
      const now = Date.now();
      for (const ms of [2_400, 2_000, 2_200])
        await queue.tasks.send(taskOf(`after ${ms}`), { notBefore: new Date(now + ms) });
      for (let n = 0; n < 20; n++) await queue.tasks.send(taskOf(`t${String(n).padStart(2, "0")}`));
      const seen: string[] = [];
      const work = working(
        queue,
        async (task) => {
          seen.push(nameOf(task));
          return done;
        },
        1,
      );
      await eventually(() => seen.length === 23, "all tasks");
      await work.stop();
      const atOnce = Array.from({ length: 20 }, (_, n) => `t${String(n).padStart(2, "0")}`);
      assert.deepEqual(seen, [...atOnce, "after 2000", "after 2200", "after 2400"]);
    }));

  test("a hundred thousand waiting tasks hold up no new one, and every mailbox gets its turn", async (t) => {
    const place = make();
    if (!place.isLarge)
      return t.diagnostic("skipped: shown by another place of the same queue, or on the other runtime");
    const queue = await place.open();
    await fill(queue, 100_000);
    await settled(queue, { ready: 100_000, delayed: 0, running: 0 });
    await queue.tasks.send(taskOf("delayed"), { notBefore: inDays(1) });
    const lanes = new Set<string>();
    let performed = 0;
    const work = working(
      queue,
      async ({ mailbox }) => {
        lanes.add(mailbox);
        performed += 1;
        return done;
      },
      32,
    );
    await eventually(() => lanes.size === 1_000, "a task of every mailbox", 180_000);
    await work.stop();
    assert.ok(performed < 10_000, `${performed} tasks were performed until each mailbox had one`);
    // A broker may return the delayed task to the queue of work for a moment, where it then stays without a consumer.
    const waiting = async () => {
      const { ready, delayed, running } = await queue.tasks.depth();
      return running === 0 && ready + delayed === 100_001 - performed;
    };
    await eventually(waiting, "all others to wait");
    await queue.close();
  });
}

/** Tasks of a thousand mailboxes in turn. */
async function fill(queue: OpenQueue, count: number): Promise<void> {
  const tasks: Task[] = Array.from({ length: count }, (_, n) => taskOf(`t${n}`, `m${n % 1_000}`));
  if (queue.sendMany) return queue.sendMany(tasks);
  for (let n = 0; n < count; n += 500) await Promise.all(tasks.slice(n, n + 500).map((task) => queue.tasks.send(task)));
}
