/** What the queue on RabbitMQ promises beyond what every queue does: parking, replaying, standing in, long waits. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { connect } from "amqplib";
import { Problem } from "../../shared/contract/problem.ts";
import { nextDelay } from "../../shared/queue/rabbitmq/topology.ts";
import { eventually } from "../servers/waiting.ts";
import { nameOf, taskOf, working } from "./queues.ts";
import { namer, type OpenRabbit, openRabbit, optionsFor, type RabbitRig, remembering } from "./rabbit-rig.ts";

export function rabbitTaskPromises(rabbit: () => RabbitRig): void {
  const newName = namer();
  const withQueue = async (use: (queue: OpenRabbit) => Promise<void>, more = {}) => {
    const queue = await openRabbit({ ...optionsFor(rabbit().url, newName("quorum"), "quorum"), ...more });
    try {
      await use(queue);
    } finally {
      await queue.close();
    }
  };

  describe("tasks on RabbitMQ", () => {
    test("a task that is given up is parked with its reason, can be listed again and again, and replayed", () =>
      withQueue(async (queue) => {
        await queue.tasks.send(taskOf("bad"));
        const first = working(queue, async () => {
          throw new Problem("message", "cannot be handled", { retry: "never" });
        });
        await eventually(async () => (await queue.tasks.counts()).parked === 1, "the parked task");
        await first.stop();
        for (let look = 0; look < 3; look++) {
          const found = await eventually(async () => (await queue.tasks.parked(10))[0], "the parked task");
          assert.deepEqual([found.task, found.reason, found.tries], [taskOf("bad"), "cannot be handled", 1]);
        }
        assert.equal(await queue.tasks.replayParked(), 1);
        const seen: [string, number][] = [];
        const second = working(queue, async (_task, attempt) => {
          seen.push(["bad", attempt]);
          return { kind: "done" };
        });
        await eventually(() => seen.length === 1, "the replayed task");
        await second.stop();
        assert.deepEqual(seen, [["bad", 1]]);
        assert.deepEqual(await queue.tasks.parked(10), []);
      }));

    test("parked tasks are replayed and dropped by their ids, the others stay", () =>
      withQueue(async (queue) => {
        for (const name of ["a", "b", "c"]) await queue.tasks.send(taskOf(name));
        const first = working(queue, async () => {
          throw new Problem("message", "cannot be handled", { retry: "never" });
        });
        await eventually(async () => (await queue.tasks.counts()).parked === 3, "the parked tasks");
        await first.stop();
        const found = await eventually(async () => {
          const all = await queue.tasks.parked(10);
          return all.length === 3 && all;
        }, "all of them");
        const idOf = (name: string) => found.find(({ task }) => task && nameOf(task) === name)?.id ?? "";
        assert.equal(await queue.tasks.dropParked([idOf("a"), "nobody's"]), 1);
        assert.equal(await queue.tasks.replayParked([idOf("b")]), 1);
        const seen: string[] = [];
        const second = working(queue, remembering(seen));
        await eventually(() => seen.length === 1, "the replayed task");
        await second.stop();
        assert.deepEqual(seen, ["b"]);
        const left = await eventually(async () => (await queue.tasks.parked(10))[0], "the one that stayed");
        assert.deepEqual(left.task, taskOf("c"));
      }));

    test("what a node whose clock is fast has parked is replayed and dropped as anything else", () =>
      withQueue(async (queue) => {
        const parkedAt = new Date(Date.now() + 3_600_000).toISOString();
        await onBroker(queue.options.urls[0], (channel) => {
          for (const name of ["a", "b"]) {
            const more = { persistent: true, messageId: name, headers: { parkedAt } };
            const body = Buffer.from(JSON.stringify(taskOf(name)));
            channel.publish(queue.options.exchange, `${queue.options.queue}.parked`, body, more);
          }
        });
        await eventually(async () => (await queue.tasks.counts()).parked === 2, "the parked tasks");
        assert.equal(await queue.tasks.dropParked(["b"]), 1);
        await eventually(async () => (await queue.tasks.counts()).parked === 1, "the other one to be back");
        assert.equal(await queue.tasks.replayParked(), 1);
        const seen: string[] = [];
        const work = working(queue, remembering(seen));
        await eventually(() => seen.length === 1, "the replayed task");
        await work.stop();
        assert.deepEqual(seen, ["a"]);
      }));

    test("a task that fails on and on is parked after the last of its tries", () =>
      withQueue(
        async (queue) => {
          await queue.tasks.send(taskOf("failing"));
          const work = working(queue, async () => {
            throw new Problem("unavailable", "down for good");
          });
          await eventually(async () => (await queue.tasks.counts()).parked === 1, "the parked task");
          await work.stop();
          assert.deepEqual(
            queue.failures.map(({ attempt, retryAt }) => [attempt, retryAt !== null]),
            [
              [1, true],
              [2, true],
              [3, false],
            ],
          );
        },
        { triesMax: 3 },
      ));

    test("a task that only a newer version can read is parked whole and reported, and stops nothing", () =>
      withQueue(async (queue) => {
        const newer = JSON.stringify({ version: 2, kind: "translate", mailbox: "a" });
        await publishRaw(queue, newer);
        await publishRaw(queue, "\u0000 not even JSON");
        await queue.tasks.send(taskOf("t"));
        const seen: string[] = [];
        const work = working(queue, remembering(seen));
        await eventually(() => seen.length === 1, "the readable task");
        await eventually(async () => (await queue.tasks.counts()).parked === 2, "the parked ones");
        await work.stop();
        assert.deepEqual(
          queue.failures.map(({ task, retryAt }) => [task, retryAt]),
          [
            [null, null],
            [null, null],
          ],
        );
        assert.deepEqual(await parkedBodies(queue), [newer, "\u0000 not even JSON"]);
      }));

    test("a wait longer than the longest delay takes several, and is not over before its time", () =>
      withQueue(
        async (queue) => {
          const notBefore = new Date(Date.now() + 900);
          await queue.tasks.send(taskOf("later"), { notBefore });
          const seen: number[] = [];
          const work = working(queue, async () => {
            seen.push(Date.now());
            return { kind: "done" };
          });
          await eventually(() => seen.length === 1, "the delayed task");
          await work.stop();
          assert.ok((seen[0] ?? 0) >= notBefore.getTime());
        },
        { delaysMs: [50, 200] },
      ));

    test("a task due in three seconds is not performed before, whoever restarts meanwhile", () =>
      withQueue(async (queue) => {
        const notBefore = new Date(Date.now() + 3000);
        await queue.tasks.send(taskOf("later"), { notBefore });
        const seen: number[] = [];
        const perform = async () => {
          seen.push(Date.now());
          return { kind: "done" } as const;
        };
        for (let restart = 0; restart < 3; restart++) {
          const work = working(queue, perform);
          await eventually(async () => (await queue.tasks.counts()).consumers === 1, "the consumer");
          await work.stop();
        }
        const work = working(queue, perform);
        await eventually(() => seen.length === 1, "the delayed task");
        await work.stop();
        assert.ok((seen[0] ?? 0) >= notBefore.getTime());
        assert.deepEqual(queue.failures, []);
      }));

    test("waits are made of the given steps, without overshooting by much", () => {
      const steps = [1_000, 5_000, 60_000, 3_600_000];
      const chosen = [1, 900, 4_500, 5_000, 30_000, 59_000, 70_000, 86_400_000].map((ms) => nextDelay(steps, ms));
      assert.deepEqual(chosen, [1_000, 1_000, 5_000, 5_000, 5_000, 60_000, 60_000, 3_600_000]);
    });

    test("who stands in gets no task while a worker has room, and all of them when there is none", () =>
      withQueue(async (queue) => {
        const byWorker: string[] = [];
        const byOther: string[] = [];
        const stopper = new AbortController();
        const low = { concurrency: 4, priority: -10 };
        const standIn = queue.tasks.run(remembering(byOther), low, stopper.signal);
        const work = working(queue, remembering(byWorker));
        await eventually(async () => (await queue.tasks.counts()).consumers === 2, "both consumers");
        for (let n = 0; n < 20; n++) await queue.tasks.send(taskOf(`a${n}`));
        await eventually(() => byWorker.length === 20, "the worker's tasks");
        assert.deepEqual(byOther, []);
        await work.stop();
        for (let n = 0; n < 20; n++) await queue.tasks.send(taskOf(`b${n}`));
        await eventually(() => byOther.length === 20, "the tasks of the one who stands in");
        stopper.abort();
        await standIn;
      }));
  });
}

async function publishRaw({ options }: OpenRabbit, body: string): Promise<void> {
  await onBroker(options.urls[0], (channel) => {
    channel.publish(options.exchange, options.queue, Buffer.from(body), { persistent: true });
  });
}

async function parkedBodies({ options }: OpenRabbit): Promise<string[]> {
  const bodies: string[] = [];
  await onBroker(options.urls[0], async (channel) => {
    for (;;) {
      const message = await channel.get(`${options.queue}.parked`, { noAck: true });
      if (!message) return;
      bodies.push(message.content.toString());
    }
  });
  return bodies.toSorted().toReversed();
}

type AnyChannel = Awaited<ReturnType<Awaited<ReturnType<typeof connect>>["createChannel"]>>;

/** Does something on the broker past the queue under test. */
export async function onBroker(
  url: string | undefined,
  use: (channel: AnyChannel) => Promise<void> | void,
): Promise<void> {
  const connection = await connect(url ?? "");
  const channel = await connection.createChannel();
  await use(channel);
  await channel.close();
  await connection.close();
}
