/** What goes wrong around RabbitMQ, and that no task is lost by it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { RabbitQueue } from "../../shared/queue/rabbitmq/queue.ts";
import { startProxy } from "../servers/proxy.ts";
import { eventually } from "../servers/waiting.ts";
import { nameOf, taskOf, working } from "./queues.ts";
import {
  childConsumer,
  namer,
  openRabbit,
  optionsFor,
  type QueueType,
  type RabbitRig,
  remembering,
} from "./rabbit-rig.ts";

/** Sends a task until it is safe, as a subscription does that sees the same mail again. */
async function sendSafely(tasks: RabbitQueue, name: string, mailbox: string): Promise<void> {
  for (let tries = 0; tries < 100; tries++) {
    const safe = await tasks.send(taskOf(name, mailbox)).then(
      () => true,
      () => false,
    );
    if (safe) return;
    await sleep(200);
  }
  throw new Error(`${name} was never safe`);
}

export function rabbitFaultPromises(rabbit: () => RabbitRig): void {
  const newName = namer();
  const optionsNow = (type: QueueType = "quorum", url = rabbit().url) => optionsFor(url, newName(type), type);

  describe("faults around RabbitMQ", () => {
    test("connections that are reset again and again lose no task", async () => {
      const proxy = await startProxy({ port: rabbit().port });
      const queue = await openRabbit(optionsNow("quorum", `amqp://guest:guest@127.0.0.1:${proxy.port}`));
      const seen = new Set<string>();
      const work = working(queue, async (task) => {
        await sleep(5);
        seen.add(nameOf(task));
        return { kind: "done" };
      });
      const sending = Promise.all(Array.from({ length: 300 }, (_, n) => sendSafely(queue.tasks, `t${n}`, `m${n % 9}`)));
      for (let cut = 0; cut < 4; cut++) {
        await sleep(150);
        proxy.resetAll();
      }
      await sending;
      await eventually(() => seen.size === 300, "all tasks");
      await eventually(async () => (await emptied(queue.tasks)) === 0, "an empty queue");
      assert.ok(queue.away.length > 0 && queue.back.length > 0);
      await work.stop();
      await queue.close();
      await proxy.stop();
    });

    for (const type of ["quorum", "classic"] as const) {
      test(`the tasks of a worker that is killed come to another (${type})`, async () => {
        const options = optionsNow(type);
        const queue = await openRabbit(options);
        for (let n = 0; n < 40; n++) await queue.tasks.send(taskOf(`t${n}`, `m${n % 8}`));
        const { exchange, queue: name, queueType } = options;
        const child = childConsumer({
          exchange,
          queue: name,
          queueType,
          url: rabbit().url,
          taskMs: 600_000,
        });
        await eventually(() => child.lines().length === 8, "the worker to have its hands full");
        const seen: string[] = [];
        const work = working(queue, remembering(seen));
        await child.kill();
        await eventually(() => seen.length === 40, "all tasks");
        await work.stop();
        assert.equal(new Set(seen).size, 40);
        await queue.close();
      });
    }

    test("a task its workers die of is parked in the end, alone, and the others are done", async () => {
      const options = { ...optionsNow(), deliveryLimit: 6 };
      const queue = await openRabbit(options);
      await queue.tasks.send(taskOf("poison", "m0"));
      for (let n = 0; n < 30; n++) await queue.tasks.send(taskOf(`t${n}`, `m${n % 8}`));
      const { exchange, queue: name, queueType } = options;
      const given = { exchange, queue: name, queueType, url: rabbit().url, deliveryLimit: 6, taskMs: 5 };
      const done = new Set<string>();
      const parkedNow = async () => (await queue.tasks.depth()).parked > 0;
      let deaths = 0;
      for (let survived = false; !survived;) {
        const child = childConsumer(given);
        const finished = () => {
          for (const line of child.lines()) if (line.startsWith("done ")) done.add(line.slice(5));
          return done.size === 30;
        };
        const spared = eventually(async () => finished() && (await parkedNow()), "the end of all tasks", 120_000, 100);
        survived = await Promise.race([child.ended.then(() => false), spared]);
        spared.catch(() => undefined);
        if (!survived) deaths += 1;
        finished();
        await child.kill();
      }
      const parked = await queue.tasks.parked(100);
      assert.deepEqual(
        parked.map(({ task }) => task && nameOf(task)),
        ["poison"],
      );
      assert.match(parked[0]?.reason ?? "", /Handed out 6 times/);
      assert.deepEqual([deaths, done.size], [6, 30]);
      await queue.close();
    });

    test("kill -9 of the broker in the middle of 2,000 tasks loses none", async () => {
      const queue = await openRabbit(optionsNow());
      const seen = new Set<string>();
      const work = working(queue, async (task) => {
        await sleep(2);
        seen.add(nameOf(task));
        return { kind: "done" };
      });
      const sending = Promise.all(
        Array.from({ length: 2000 }, (_, n) => sendSafely(queue.tasks, `t${n}`, `m${n % 40}`)),
      );
      await eventually(() => seen.size > 300, "some tasks", 60_000);
      await rabbit().kill();
      assert.ok(seen.size < 2000);
      await eventually(() => queue.tasks.trouble() !== null, "the loss to be noticed");
      await rabbit().start();
      await sending;
      await eventually(() => seen.size === 2000, "all tasks", 60_000);
      await eventually(async () => (await emptied(queue.tasks)) === 0, "an empty queue", 60_000);
      await work.stop();
      assert.deepEqual(await queue.tasks.parked(10), []);
      await queue.close();
    });
  });
}

/** Tasks there are, once the connection that counts them is back too: the one that takes them may be earlier. */
async function emptied(tasks: RabbitQueue): Promise<number | undefined> {
  if (tasks.trouble() !== null) return undefined;
  const { ready, delayed, running } = await tasks.depth();
  return ready + delayed + running;
}
