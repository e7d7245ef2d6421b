/** What every queue promises, whatever it is made of. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { Problem } from "../../shared/contract/problem.ts";
import type { Task, TaskOutcome } from "../../shared/contract/task.ts";
import type { PerformTask, TaskDepth, TaskFailure, TaskQueue } from "../../shared/queue/queue.ts";
import { eventually } from "../servers/waiting.ts";
import { openQueueAt, type QueueAddress } from "./queue-address.ts";
import { killing } from "./queues-killing.ts";
import { parking } from "./queues-parking.ts";
import { sending } from "./queues-sending.ts";
import { stoppingAndStarting } from "./queues-stopping.ts";

/** `sendMany` puts so many tasks there at once that sending each would take too long. */
export type OpenQueue = {
  tasks: TaskQueue;
  failures: readonly TaskFailure[];
  sendMany?(tasks: Task[]): Promise<void>;
  close(): Promise<void>;
};
/**
 * A place with an empty queue in it. With an address, it holds what it held when it is opened again after a close, also by another
 * process. `isLarge`: it is also tried with very many tasks.
 */
export type QueuePlace = { address?: QueueAddress; isLarge?: boolean; open(): Promise<OpenQueue> };
/** Every wait between tries is expected to be a hundredth of the production one. */
export type NewQueuePlace = () => QueuePlace;

/** The place of this address. */
export function placeAt(address: QueueAddress, isLarge = false): QueuePlace {
  return { address, isLarge, open: () => openQueueAt(address) };
}

export function taskOf(delivery: string, mailbox = "a"): Task {
  return { version: 1, kind: "redeliver", mailbox, delivery };
}

export const nameOf = (task: Task) => (task.kind === "redeliver" ? task.delivery : task.kind);
const done = { kind: "done" } as const;

/** Runs the queue in the background; `stop` aborts it and waits for its end. */
export function working(queue: OpenQueue, perform: PerformTask, concurrency = 8) {
  const stopper = new AbortController();
  const end = queue.tasks.run(perform, { concurrency }, stopper.signal);
  return {
    async stop() {
      stopper.abort();
      await end;
    },
  };
}

/** Waits until the queue counts this: a broker's counts follow what it was told a moment later. */
export async function settled(queue: OpenQueue, depth: TaskDepth): Promise<void> {
  const same = async () => isDeepStrictEqual({ ...(await queue.tasks.depth()), ...depth }, await queue.tasks.depth());
  await eventually(same, `the depth ${JSON.stringify(depth)}`).catch(async (error: unknown) => {
    throw new Error(`${String(error)}; it is ${JSON.stringify(await queue.tasks.depth())}`);
  });
}

/** Runs `use` with a newly opened queue and closes it. */
export async function withQueue(make: NewQueuePlace, use: (queue: OpenQueue) => Promise<void>): Promise<void> {
  const queue = await make().open();
  try {
    await use(queue);
  } finally {
    await queue.close();
  }
}

/** A perform that waits until its gate is opened or the signal aborts. */
export function gated() {
  const gate = Promise.withResolvers<TaskOutcome>();
  const begun: string[] = [];
  const perform: PerformTask = (task, _attempt, signal) => {
    begun.push(nameOf(task));
    const stopped = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    return Promise.race([gate.promise, stopped]);
  };
  return { perform, begun, open: () => gate.resolve(done) };
}

/** The suite: hold every implementation to it. */
export function queuePromises(name: string, make: NewQueuePlace): void {
  describe(name, () => {
    carrying(make);
    retrying(make);
    sharing(make);
    sending(make);
    parking(make);
    stoppingAndStarting(make);
    killing(make);
  });
}

function carrying(make: NewQueuePlace): void {
  test("tasks sent before and while it runs are performed once each, whole, as their first attempt", () =>
    withQueue(make, async (queue) => {
      await queue.tasks.send(taskOf("before"));
      const seen: [Task, number][] = [];
      const work = working(queue, async (task, attempt) => {
        seen.push([task, attempt]);
        return done;
      });
      await eventually(() => seen.length === 1, "the task sent before");
      await queue.tasks.send(taskOf("while"));
      await eventually(() => seen.length === 2, "the task sent while it ran");
      await work.stop();
      assert.deepEqual(seen, [
        [taskOf("before"), 1],
        [taskOf("while"), 1],
      ]);
      await settled(queue, { ready: 0, delayed: 0, running: 0 });
    }));

  test("a delayed task is performed not before its time, and does not hold up others", () =>
    withQueue(make, async (queue) => {
      // Later than the slowest broker needs for two tasks.
      const notBefore = new Date(Date.now() + 3_000);
      const seen: string[] = [];
      let early = false;
      await queue.tasks.send(taskOf("delayed"), { notBefore });
      await queue.tasks.send(taskOf("at once"));
      await settled(queue, { ready: 1, delayed: 1, running: 0 });
      const work = working(queue, async (task) => {
        early ||= nameOf(task) === "delayed" && Date.now() < notBefore.getTime();
        seen.push(nameOf(task));
        return done;
      });
      await eventually(() => seen.length === 2, "both tasks");
      await work.stop();
      assert.deepEqual(seen, ["at once", "delayed"]);
      assert.equal(early, false);
    }));

  test("the rest that a task leaves is performed later, in its place", () =>
    withQueue(make, async (queue) => {
      const seen: string[] = [];
      let at = new Date();
      await queue.tasks.send(taskOf("whole"));
      const work = working(queue, async (task) => {
        seen.push(nameOf(task));
        if (nameOf(task) !== "whole") return done;
        at = new Date(Date.now() + 1_500);
        return { kind: "again", task: taskOf("rest"), at };
      });
      await eventually(async () => (await queue.tasks.depth()).delayed === 1, "the rest waiting");
      await eventually(() => seen.length === 2, "the rest");
      assert.ok(Date.now() >= at.getTime());
      await work.stop();
      assert.deepEqual(seen, ["whole", "rest"]);
      assert.deepEqual(queue.failures, []);
    }));
}

function retrying(make: NewQueuePlace): void {
  test("a task that fails is tried again, each time one attempt further, and each failure is reported", () =>
    withQueue(make, async (queue) => {
      const attempts: number[] = [];
      await queue.tasks.send(taskOf("t"));
      const work = working(queue, async (_task, attempt) => {
        attempts.push(attempt);
        if (attempt === 1) throw new Problem("unavailable", "busy just now");
        if (attempt === 2) throw new TypeError("a defect of the service");
        return done;
      });
      await eventually(() => attempts.length === 3, "the third attempt");
      await work.stop();
      assert.deepEqual(attempts, [1, 2, 3]);
      const reported = queue.failures.map(({ attempt, mailbox, problem }) => [attempt, mailbox, problem.code]);
      assert.deepEqual(reported, [
        [1, "a", "unavailable"],
        [2, "a", "internal"],
      ]);
      assert.ok(queue.failures.every(({ retryAt }) => retryAt !== null));
      await settled(queue, { ready: 0, delayed: 0, running: 0 });
    }));

  test("a task that is put off comes again not before its time, as the same attempt, and nothing is reported", () =>
    withQueue(make, async (queue) => {
      let at = new Date(Date.now() + 60_000);
      const seen: [string, number, boolean][] = [];
      await queue.tasks.send(taskOf("t"));
      const work = working(queue, async (task, attempt) => {
        seen.push([nameOf(task), attempt, Date.now() >= at.getTime()]);
        if (seen.length > 1) return done;
        at = new Date(Date.now() + 300);
        return { kind: "later", at };
      });
      await eventually(() => seen.length === 2, "the task to come again");
      await work.stop();
      assert.deepEqual(seen, [
        ["t", 1, false],
        ["t", 1, true],
      ]);
      assert.deepEqual(queue.failures, []);
      await settled(queue, { ready: 0, delayed: 0, running: 0 });
    }));

  test("a problem that names a time is not tried before it", () =>
    withQueue(make, async (queue) => {
      const retry = new Date(Date.now() + 200);
      const times: number[] = [];
      await queue.tasks.send(taskOf("t"));
      const work = working(queue, async () => {
        times.push(Date.now());
        if (times.length === 1) throw new Problem("throttled", "wait", { retry });
        return done;
      });
      await eventually(() => times.length === 2, "the second attempt");
      await work.stop();
      assert.ok((times[1] ?? 0) >= retry.getTime());
    }));

  test("a problem that says never ends the tries, and is reported as given up", () =>
    withQueue(make, async (queue) => {
      await queue.tasks.send(taskOf("t"));
      let tries = 0;
      const work = working(queue, async () => {
        tries++;
        throw new Problem("message", "cannot be handled", { retry: "never" });
      });
      await eventually(() => queue.failures.length === 1, "the report");
      await eventually(async () => (await queue.tasks.depth()).running === 0, "the end of it");
      await work.stop();
      assert.deepEqual(queue.failures[0]?.task, taskOf("t"));
      assert.equal(queue.failures[0]?.retryAt, null);
      await settled(queue, { ready: 0, delayed: 0, running: 0 });
      assert.equal(tries, 1);
    }));
}

function sharing(make: NewQueuePlace): void {
  test("no more tasks run at once than allowed, and of one mailbox no more than a quarter of that", () =>
    withQueue(make, async (queue) => {
      const running = new Map<string, number>();
      const most = { all: 0, lane: 0 };
      let finished = 0;
      for (let n = 0; n < 120; n++) await queue.tasks.send(taskOf(`t${n}`, `m${n % 6}`));
      const work = working(queue, async ({ mailbox }) => {
        running.set(mailbox, (running.get(mailbox) ?? 0) + 1);
        most.all = Math.max(
          most.all,
          [...running.values()].reduce((a, b) => a + b),
        );
        most.lane = Math.max(most.lane, running.get(mailbox) ?? 0);
        await sleep(1);
        running.set(mailbox, (running.get(mailbox) ?? 0) - 1);
        finished++;
        return done;
      });
      await eventually(() => finished === 120, "all tasks");
      await work.stop();
      assert.deepEqual(most, { all: 8, lane: 2 });
    }));

  test("a mailbox whose tasks hang delays no other, however many it has", () =>
    withQueue(make, async (queue) => {
      const stuck = gated();
      for (let n = 0; n < 200; n++) await queue.tasks.send(taskOf(`stuck ${n}`, "stuck"));
      for (let n = 0; n < 40; n++) await queue.tasks.send(taskOf(`t${n}`, `m${n % 4}`));
      const seen: string[] = [];
      const work = working(queue, async (task, attempt, signal) => {
        if (task.mailbox === "stuck") return stuck.perform(task, attempt, signal);
        seen.push(nameOf(task));
        return done;
      });
      await eventually(() => seen.length === 40, "the other mailboxes' tasks");
      assert.equal(stuck.begun.length, 2);
      await settled(queue, { ready: 198, delayed: 0, running: 2 });
      await work.stop();
    }));

  test("with room for one task at a time, every mailbox still gets its turn", () =>
    withQueue(make, async (queue) => {
      for (let n = 0; n < 50; n++) await queue.tasks.send(taskOf(`many ${n}`, "many"));
      await queue.tasks.send(taskOf("one", "few"));
      const seen: string[] = [];
      const work = working(
        queue,
        async (task) => {
          seen.push(nameOf(task));
          // Meanwhile the broker hands over the others.
          if (seen.length === 1) await new Promise((resolve) => setTimeout(resolve, 1_000));
          return done;
        },
        1,
      );
      await eventually(() => seen.length === 51, "all tasks");
      await work.stop();
      assert.ok(seen.indexOf("one") < 5, `it was number ${seen.indexOf("one")}`);
      const many = seen.filter((name) => name !== "one");
      assert.deepEqual(
        many,
        Array.from({ length: 50 }, (_, n) => `many ${n}`),
      );
    }));
}
