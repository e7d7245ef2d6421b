/** What the queue on RabbitMQ promises beyond what every queue does: parking, replaying, standing in, long waits. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { connect } from "amqplib";
import { Problem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import type { RabbitOptions } from "../../shared/queue/rabbitmq/queue.ts";
import { nextDelay } from "../../shared/queue/rabbitmq/topology.ts";
import { eventually } from "../servers/waiting.ts";
import { taskOf, working } from "./queues.ts";
import { namer, type OpenRabbit, openRabbit, optionsFor, type RabbitRig, remembering } from "./rabbit-rig.ts";

export function rabbitTaskPromises(rabbit: () => RabbitRig): void {
  const newName = namer();
  const withQueue = async (use: (queue: OpenRabbit) => Promise<void>, more: Partial<RabbitOptions> = {}) => {
    const queue = await openRabbit({ ...optionsFor(rabbit().url, newName("quorum"), "quorum"), ...more });
    try {
      await use(queue);
    } finally {
      await queue.close();
    }
  };

  describe("tasks on RabbitMQ", () => {
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
        await eventually(async () => (await queue.tasks.depth()).parked === 2, "the parked tasks");
        assert.equal(await queue.tasks.dropParked(["b"]), 1);
        await eventually(async () => (await queue.tasks.depth()).parked === 1, "the other one to be back");
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
          await eventually(async () => (await queue.tasks.depth()).parked === 1, "the parked task");
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
        { maxAttempts: 3 },
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
        await eventually(async () => (await queue.tasks.depth()).parked === 2, "the parked ones");
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

    test("tasks that 0.1 queued under the kinds of then are performed, listed and replayed under those of now", () =>
      withQueue(async (queue) => {
        const rest = { version: 1, mailbox: "a" };
        const queued = [
          {
            ...rest,
            kind: "tidy",
            messages: [{ folder: "INBOX", epoch: "1", uid: 7, size: 9, receivedAt: "2026-03-01T00:00:00.000Z" }],
          },
          { ...rest, kind: "tell" },
          { ...rest, kind: "load", since: null, messageIds: ["<a@b>"] },
        ];
        const kinds = ["afterDelivery", "callback", "synchronize"];
        const expected = queued.map((task, n) => ({ ...task, kind: kinds[n] }));
        for (const task of queued) await publishRaw(queue, JSON.stringify(task));
        const first: Task[] = [];
        const failing = working(queue, async (task) => {
          first.push(task);
          throw new Problem("message", "cannot be handled", { retry: "never" });
        });
        await eventually(async () => (await queue.tasks.depth()).parked === 3, "the parked tasks");
        await failing.stop();
        assert.deepEqual(first.toSorted(byKind), expected);
        const parked = await eventually(async () => {
          const all = await queue.tasks.parked(10);
          return all.length === 3 && all;
        }, "all of them");
        assert.deepEqual(parked.map(({ task }) => task).toSorted(byKind), expected);
        assert.equal(await queue.tasks.replayParked(), 3);
        const second: Task[] = [];
        const work = working(queue, async (task) => {
          second.push(task);
          return { kind: "done" };
        });
        await eventually(() => second.length === 3, "the replayed tasks");
        await work.stop();
        assert.deepEqual(second.toSorted(byKind), expected);
      }));

    test("renamed tasks are queued under the kinds that workers of 0.1 know, so that these do not park them", () =>
      withQueue(async (queue) => {
        const rest = { version: 1, mailbox: "a" } as const;
        const messages = [{ folder: "INBOX", epoch: "1", uid: 7, size: 9, receivedAt: "2026-03-01T00:00:00.000Z" }];
        await queue.tasks.send({ ...rest, kind: "afterDelivery", messages });
        await queue.tasks.send({ ...rest, kind: "callback" });
        await queue.tasks.send({ ...rest, kind: "synchronize", since: null, messageIds: [] });
        await queue.tasks.send(taskOf("unchanged"));
        const written: { type: unknown; body: unknown }[] = [];
        await onBroker(queue.options.urls[0], async (channel) => {
          while (written.length < 4) {
            const message = await channel.get(queue.options.queue, { noAck: true });
            if (message) written.push({ type: message.properties.type, body: JSON.parse(message.content.toString()) });
          }
        });
        assert.deepEqual(written, [
          { type: "task.tidy", body: { ...rest, kind: "tidy", messages } },
          { type: "task.tell", body: { ...rest, kind: "tell" } },
          { type: "task.load", body: { ...rest, kind: "load", since: null, messageIds: [] } },
          { type: "task.redeliver", body: taskOf("unchanged") },
        ]);
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
          await eventually(async () => (await queue.tasks.depth()).consumers === 1, "the consumer");
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
        await eventually(async () => (await queue.tasks.depth()).consumers === 2, "both consumers");
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

function byKind(one: Task | null, other: Task | null): number {
  return (one?.kind ?? "").localeCompare(other?.kind ?? "");
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
