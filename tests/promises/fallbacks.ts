/** What a sender promises that does the work itself while the broker takes none. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Problem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import { fallbackQueue } from "../../shared/queue/redis/queue.ts";
import type { TaskFailure } from "../../shared/queue/queue.ts";
import type { Perform } from "../../shared/queue/queue.ts";
import { backoffs } from "../../shared/time.ts";
import { startProxy } from "../servers/proxy.ts";
import { eventually } from "../servers/waiting.ts";
import { nameOf, taskOf, working } from "./queues.ts";
import { namer, openRabbit, optionsFor, type RabbitRig, remembering } from "./rabbit-rig.ts";

const done = { kind: "done" } as const;
const deliverOf = (mailbox: string): Task => ({
  version: 1,
  kind: "deliver",
  mailbox,
  messages: [{ folder: "INBOX", epoch: "1", uid: 1, size: 1, receivedAt: "2026-11-22T05:00:00.000Z" }],
  again: false,
});
type Broker = Parameters<typeof fallbackQueue>[0]["broker"];

/** A broker that is never there. */
const nobody: Broker = {
  trouble: () => new Problem("queue", "There is no broker"),
  send: () => Promise.reject(new Problem("queue", "There is no broker")),
};

const untilAborted: Perform = (_task, _attempt, signal) =>
  new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason), { once: true }));

function fallback(perform: Perform, { broker = nobody, concurrency = 4, signal = new AbortController().signal } = {}) {
  const failures: TaskFailure[] = [];
  const onFailed = (failure: TaskFailure) => void failures.push(failure);
  const tasks = fallbackQueue({ broker, perform, backoff: backoffs(0.01), onFailed }, { concurrency }, signal);
  return { tasks, failures };
}

export function fallbackPromises(rabbit: () => RabbitRig): void {
  const newName = namer();

  /** A queue behind a line that can be cut, a worker on it, and a fallback that does tasks here. */
  async function behindProxy(use: (it: Awaited<ReturnType<typeof setUp>>) => Promise<void>) {
    const it = await setUp();
    try {
      await use(it);
    } finally {
      await it.close();
    }
  }
  async function setUp() {
    const proxy = await startProxy({ port: rabbit().port });
    const name = newName("quorum");
    const options = { ...optionsFor(`amqp://guest:guest@127.0.0.1:${proxy.port}`, name, "quorum"), confirmMs: 500 };
    const queue = await openRabbit(options);
    const there: string[] = [];
    const here: string[] = [];
    const direct = await openRabbit(optionsFor(rabbit().url, name, "quorum"));
    const work = working(direct, remembering(there));
    const { tasks, failures } = fallback(remembering(here), { broker: queue.tasks });
    const close = async () => {
      await work.stop();
      await direct.close();
      await queue.close();
      await proxy.stop();
    };
    return { proxy, queue, there, here, tasks, failures, close };
  }

  describe("the sender that falls back", () => {
    test("a retry for later is not waited for: it is done here when it is due, or by a broker that is back before", async () => {
      const here: string[] = [];
      const sent: string[] = [];
      let away = true;
      const broker: Broker = {
        trouble: () => (away ? new Problem("queue", "There is no broker") : null),
        send: async (task) => void sent.push(nameOf(task)),
      };
      const { tasks } = fallback(async (task) => (here.push(nameOf(task)), done), { broker });
      await tasks.send(taskOf("soon"), { notBefore: new Date(Date.now() + 100) });
      await tasks.send(taskOf("later"), { notBefore: new Date(Date.now() + 30_000) });
      await tasks.send(taskOf("tomorrow"), { notBefore: new Date(Date.now() + 86_400_000) });
      assert.equal(here.length, 0, "not waited for");
      await eventually(() => here.length === 1, "the one that is due");
      away = false;
      await eventually(() => sent.includes("later"), "the broker's");
      assert.deepEqual([here, sent], [["soon"], ["later"]]);
    });

    test("tasks go to the broker while it is there, are done here while it is away, and go there again after that", () =>
      behindProxy(async ({ proxy, queue, there, here, tasks }) => {
        await tasks.send(taskOf("before"));
        await eventually(() => there.length === 1, "the task done by the worker");
        await proxy.set({ refuse: true });
        proxy.resetAll();
        for (let n = 0; n < 50; n++) await tasks.send(taskOf(`away ${n}`));
        assert.equal(here.length, 50);
        await proxy.set({});
        await queue.tasks.ready(20_000);
        await tasks.send(taskOf("after"));
        await eventually(() => there.length === 2, "the task done by the worker again");
        assert.deepEqual([there, here.length], [["before", "after"], 50]);
        assert.deepEqual([queue.away.length, queue.back.length], [1, 1]);
        assert.equal(queue.away[0]?.code, "queue");
      }));

    test("a broker that is connected but dumb holds a task up once, not every task", () =>
      behindProxy(async ({ proxy, queue, here, there, tasks }) => {
        await proxy.set({ blackhole: true });
        for (let n = 0; n < 20; n++) await tasks.send(taskOf(`away ${n}`));
        assert.equal(here.length, 20);
        assert.equal(queue.away.length, 1);
        await proxy.set({});
        proxy.resetAll();
        await queue.tasks.ready(30_000);
        await tasks.send(taskOf("after"));
        await eventually(() => there.includes("after"), "the task done by the worker");
      }));

    test("what is left of a task goes to the broker once it is back", () =>
      behindProxy(async ({ proxy, queue, there }) => {
        await proxy.set({ refuse: true });
        proxy.resetAll();
        await eventually(() => queue.tasks.trouble(), "the loss to be noticed");
        const tried = Promise.withResolvers<void>();
        const { tasks } = fallback(
          async () => {
            tried.resolve();
            return { kind: "again", task: taskOf("rest"), at: new Date(Date.now() + 5000) };
          },
          { broker: queue.tasks },
        );
        const sent = tasks.send(deliverOf("a"));
        await tried.promise;
        await proxy.set({});
        await sent;
        assert.deepEqual(there, []);
        assert.equal((await queue.tasks.depth()).delayed, 1);
      }));

    test("no more tasks are done here at once than allowed, and their senders wait", async () => {
      let running = 0;
      let most = 0;
      const { tasks } = fallback(
        async () => {
          most = Math.max(most, ++running);
          await sleep(5);
          running--;
          return done;
        },
        { concurrency: 3 },
      );
      await Promise.all(Array.from({ length: 30 }, (_, n) => tasks.send(taskOf(`t${n}`))));
      assert.deepEqual([most, running], [3, 0]);
    });

    test("a task that sends another while it is performed does not wait for itself", async () => {
      const seen: string[] = [];
      const nested: { tasks?: ReturnType<typeof fallback>["tasks"] } = {};
      const { tasks } = fallback(
        async (task) => {
          const { mailbox } = task;
          if (task.kind === "deliver") await nested.tasks?.send({ ...task, kind: "tidy" });
          seen.push(`${task.kind} ${mailbox}`);
          return done;
        },
        { concurrency: 1 },
      );
      nested.tasks = tasks;
      await Promise.all([tasks.send(deliverOf("a")), tasks.send(deliverOf("b"))]);
      assert.deepEqual(seen.toSorted(), ["deliver a", "deliver b", "tidy a", "tidy b"]);
    });

    test("a task that fails here is tried some times, then refused: its sender sees it again", async () => {
      const attempts: number[] = [];
      const { tasks, failures } = fallback(async (_task, attempt) => {
        attempts.push(attempt);
        throw new Problem("unavailable", "down");
      });
      await assert.rejects(tasks.send(deliverOf("a")), { code: "unavailable" });
      assert.deepEqual(attempts, [1, 2, 3, 4, 5]);
      assert.equal(failures.length, 5);
      const never = fallback(async () => {
        throw new Problem("auth", "wrong", { retry: "never" });
      });
      await assert.rejects(never.tasks.send(deliverOf("a")), { code: "auth" });
      assert.deepEqual(
        never.failures.map(({ retryAt }) => retryAt),
        [null],
      );
    });

    test("after one deadline a broker is left alone for a while, even if it looks well", async () => {
      let asked = 0;
      const broker = {
        trouble: () => null,
        async send() {
          asked++;
          await sleep(2100);
          throw new Problem("queue", "no confirm in time");
        },
      };
      const seen: string[] = [];
      const { tasks } = fallback(remembering(seen), { broker });
      await Promise.all([1, 2, 3].map((n) => tasks.send(taskOf(`first ${n}`))));
      for (let n = 0; n < 10; n++) await tasks.send(taskOf(`t${n}`));
      assert.deepEqual([asked, seen.length], [3, 13]);
    });

    test("a stop aborts what is done here, and its sender learns that it is not safe", async () => {
      const stopper = new AbortController();
      const { tasks, failures } = fallback(untilAborted, { concurrency: 1, signal: stopper.signal });
      const sends = [tasks.send(deliverOf("a")), tasks.send(deliverOf("b"))];
      setTimeout(() => stopper.abort(), 20);
      for (const sent of sends) await assert.rejects(sent, { name: "AbortError" });
      assert.deepEqual(failures, []);
    });
  });
}
