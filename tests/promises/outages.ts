/** What a broker with a stand-in promises: whatever the broker does, a task that was sent is performed, and at the end it is on the broker. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { Problem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import { type Proxy, startProxy } from "../servers/proxy.ts";
import type { RabbitMq } from "../servers/rabbitmq.ts";
import type { Redis } from "../servers/redis.ts";
import { eventually } from "../servers/waiting.ts";
import { type OpenFailover, openFailover } from "./failover-rig.ts";
import { processAt } from "./queues-killing.ts";
import { nameOf, placeAt, taskOf, working } from "./queues.ts";
import { namer, remembering } from "./rabbit-rig.ts";

const done = { kind: "done" } as const;
const DAY_MS = 24 * 3_600_000;

async function failForGood(): Promise<never> {
  throw new Problem("message", "cannot be handled", { retry: "never" });
}

type Servers = { rabbit: RabbitMq; redis: Redis };
type Scene = {
  proxy: Proxy;
  queue: OpenFailover;
  /** Cuts the way to the broker; resolves once the queue knows. */
  cut(): Promise<void>;
  /** Mends it; resolves once the queue sends to the broker again. */
  mend(): Promise<void>;
};

/** Resolves when the stand-in has neither waiting nor claimed tasks. */
const emptied = ({ standIn }: OpenFailover) =>
  eventually(async () => {
    const { ready, delayed, running } = await standIn.tasks.depth();
    return ready + delayed + running === 0;
  }, "nothing left in Redis");

export function outagePromises(servers: () => Servers): void {
  const newName = namer();
  const newAddress = (rabbitUrl: string) => {
    const name = newName("quorum");
    return { rabbitUrl, name, type: "quorum", redisUrl: servers().redis.url, prefix: randomUUID() } as const;
  };

  /** A queue behind a line to its broker that can be cut. */
  async function behindProxy(story: (scene: Scene) => Promise<void>, confirmMs = 5_000): Promise<void> {
    const proxy = await startProxy({ port: servers().rabbit.port });
    const address = newAddress(`amqp://guest:guest@127.0.0.1:${proxy.port}`);
    const queue = await openFailover(address, { confirmMs });
    const { broker } = queue;
    const scene: Scene = {
      proxy,
      queue,
      async cut() {
        await proxy.set({ refuse: true });
        proxy.resetAll();
        await eventually(() => broker.tasks.trouble() !== null, "the loss to be noticed");
      },
      async mend() {
        await proxy.set({});
        await broker.tasks.ready(20_000);
      },
    };
    try {
      await story(scene);
    } finally {
      await queue.close();
      await proxy.stop();
    }
  }

  describe("RabbitMQ that is away and comes back", () => {
    test("tasks go to the broker, wait in Redis while it is away, where they are performed, and go to the broker again", () =>
      behindProxy(async ({ queue, cut, mend }) => {
        const seen: string[] = [];
        await queue.tasks.send(taskOf("before"));
        assert.equal((await queue.standIn.tasks.depth()).ready, 0);
        const work = working(queue, remembering(seen));
        await eventually(() => seen.length === 1, "the task on the broker");
        await cut();
        for (let n = 0; n < 50; n++) await queue.tasks.send(taskOf(`away ${n}`, `m${n % 8}`));
        await eventually(() => seen.length === 51, "the tasks in Redis");
        await mend();
        await queue.tasks.send(taskOf("after"));
        await eventually(() => seen.includes("after"), "the task on the broker again");
        await work.stop();
        assert.equal(new Set(seen).size, 52);
        assert.deepEqual([queue.broker.away.length, queue.broker.back.length], [1, 1]);
        assert.deepEqual(queue.failures, []);
      }));

    test("what waits in Redis moves to the broker when it is back, with its time and its attempts, for days or for seconds", () =>
      behindProxy(async ({ queue, cut, mend }) => {
        await cut();
        const retry = new Date(Date.now() + 6_000);
        await queue.tasks.send(taskOf("tried"));
        const trying = working(queue, async () => {
          throw new Problem("throttled", "wait", { retry });
        });
        await eventually(() => queue.standIn.failures.length === 1, "the first try");
        await trying.stop();
        await queue.tasks.send(taskOf("in a week"), { notBefore: new Date(Date.now() + 7 * DAY_MS) });
        for (let n = 0; n < 30; n++) await queue.tasks.send(taskOf(`t${n}`, `m${n % 8}`));
        assert.equal((await queue.standIn.tasks.depth()).ready, 30);
        await mend();
        const seen = new Map<string, [number, Date]>();
        const work = working(queue, async (task, attempt) => {
          seen.set(nameOf(task), [attempt, new Date()]);
          return done;
        });
        await emptied(queue);
        await eventually(() => seen.size === 31, "all that came due");
        const [attempt, at] = seen.get("tried") ?? [0, new Date(0)];
        assert.equal(attempt, 2);
        assert.ok(at >= retry, "not before its time");
        await eventually(async () => (await queue.broker.tasks.depth()).delayed === 1, "the task for next week");
        await work.stop();
      }));

    test("a task that went to Redis because the broker was slow is not sent to the broker afterwards", () =>
      behindProxy(async ({ proxy, queue }) => {
        await proxy.set({ latencyMs: 1_500 });
        const names = Array.from({ length: 1_000 }, (_, n) => taskOf(`t${n}`, `m${n % 8}`));
        await Promise.all(names.map((task) => queue.tasks.send(task)));
        await proxy.set({});
        await queue.broker.tasks.ready(20_000);
        await queue.broker.tasks.send(taskOf("last"));
        const [there, here] = await Promise.all([queue.broker.tasks.depth(), queue.standIn.tasks.depth()]);
        assert.ok(here.ready > 0, "some went to Redis");
        // The broker may confirm too late the 200 that were on their way to it.
        const twice = there.ready + here.ready - 1_001;
        assert.ok(twice >= 0 && twice <= 200, `${twice} tasks are in both`);
      }, 30_000));

    test("tasks that send tasks during an outage wait for nobody: a hundred at once, each with two more, while the broker comes and goes", () =>
      behindProxy(async ({ queue, cut, mend }) => {
        const seen = new Set<string>();
        const work = working(queue, async (task: Task) => {
          const name = nameOf(task);
          const parts = name.startsWith("outer") ? ["a", "b"] : [];
          await Promise.all(parts.map((part) => queue.tasks.send(taskOf(`inner ${name} ${part}`, task.mailbox))));
          seen.add(name);
          return done;
        });
        await cut();
        const sends = Array.from({ length: 100 }, (_, n) => queue.tasks.send(taskOf(`outer ${n}`, `m${n % 10}`)));
        await eventually(() => seen.size > 20, "some of them");
        await mend();
        await eventually(() => seen.size > 100, "more of them");
        await cut();
        await Promise.all(sends);
        await eventually(() => seen.size === 300, "the outer and the inner tasks");
        await mend();
        await emptied(queue);
        await work.stop();
      }));

    test("a broker that is connected but dumb holds a sender up once, and a signal ends the wait", () =>
      behindProxy(async ({ proxy, queue, mend }) => {
        await proxy.set({ blackhole: true });
        const stop = new AbortController();
        const reason = new Error("no longer wanted");
        const aborted = queue.tasks.send(taskOf("aborted"), {}, stop.signal);
        stop.abort(reason);
        await assert.rejects(aborted, reason);
        for (let n = 0; n < 20; n++) await queue.tasks.send(taskOf(`away ${n}`));
        assert.equal((await queue.standIn.tasks.depth()).ready, 20);
        assert.equal(queue.broker.away.length, 1);
        proxy.resetAll();
        await mend();
        const seen: string[] = [];
        const work = working(queue, remembering(seen));
        await emptied(queue);
        await eventually(() => new Set(seen).size >= 20, "the tasks that waited");
        await work.stop();
      }, 3_000));

    test("what is parked is listed, replayed and dropped, whether it was parked on the broker or in Redis", () =>
      behindProxy(async ({ queue, cut, mend }) => {
        const parkAs = async (name: string) => {
          await queue.tasks.send(taskOf(name));
          const work = working(queue, failForGood);
          await eventually(() => queue.failures.some(({ task }) => task && nameOf(task) === name), `${name} to fail`);
          await work.stop();
        };
        await parkAs("on the broker");
        await cut();
        await parkAs("in Redis");
        await assert.rejects(queue.tasks.parked(10), { code: "queue" });
        await mend();
        const parked = await eventually(async () => {
          const all = await queue.tasks.parked(10);
          return all.length === 2 && all;
        }, "both");
        assert.deepEqual(parked.map(({ task }) => task && nameOf(task)).toSorted(), ["in Redis", "on the broker"]);
        assert.equal((await queue.tasks.depth()).parked, 2);
        const onBroker = parked.find(({ task }) => task && nameOf(task) === "on the broker")?.id ?? "";
        assert.equal(await queue.tasks.dropParked([onBroker]), 1);
        assert.equal(await queue.tasks.replayParked(), 1);
        const seen: string[] = [];
        const work = working(queue, remembering(seen));
        await eventually(() => seen.length === 1, "the replayed task");
        await work.stop();
        assert.deepEqual(seen, ["in Redis"]);
      }));

    test("a task that this version cannot read moves to the broker as it is", () =>
      behindProxy(async ({ queue, cut, mend }) => {
        await cut();
        const newer = { version: 2, kind: "translate", mailbox: "a" };
        await queue.tasks.send(newer as unknown as Task);
        await mend();
        const work = working(queue, remembering([]));
        await emptied(queue);
        await eventually(async () => (await queue.broker.tasks.depth()).parked === 1, "it on the broker");
        await work.stop();
      }));

    test("kill -9 of a process that moves tasks to the broker loses none", async () => {
      const { rabbit } = servers();
      const address = newAddress("amqp://guest:guest@127.0.0.1:1");
      const away = await openFailover(address, { readyMs: 0 });
      const names = Array.from({ length: 300 }, (_, n) => `t${n}`);
      await Promise.all(names.map((name, n) => away.tasks.send(taskOf(name, `m${n % 8}`))));
      await away.close();
      const place = placeAt({ ...address, rabbitUrl: rabbit.url });
      const killed = processAt(place, { performMs: 5 });
      await killed.killAfter("done", 40);
      const finished = new Set(killed.names("done"));
      const after = await place.open();
      const seen: string[] = [];
      const work = working(after, remembering(seen));
      await eventually(() => names.every((name) => seen.includes(name) || finished.has(name)), "all that was left");
      await work.stop();
      await after.close();
    });
  });
}
