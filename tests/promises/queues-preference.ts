/** What the queues of several processes promise about tasks that prefer one of them: it gets them first, and nobody waits for it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Task } from "../../shared/contract/task.ts";
import { eventually } from "../servers/waiting.ts";
import { openQueueAt, type Preferring, type QueueAddress } from "./queue-address.ts";
import { nameOf, type OpenQueue, settled, taskOf, working } from "./queues.ts";
import { processAt } from "./queues-killing.ts";

const done = { kind: "done" } as const;
const PROCESSES = ["one", "two", "three"];
const mailboxes = Array.from({ length: 30 }, (_, n) => `m${n}`);
/** Each mailbox has one of the processes. */
const prefers = Object.fromEntries(mailboxes.map((mailbox, n) => [mailbox, PROCESSES[n % 3] ?? ""]));
const allPrefer = (name: string) => Object.fromEntries(mailboxes.map((mailbox) => [mailbox, name]));
const NOTHING_LEFT = { ready: 0, delayed: 0, running: 0, parked: 0 };

/** Opens the same place several times, and closes all. */
async function withQueues(
  address: QueueAddress,
  wanted: Preferring[],
  story: (...queues: OpenQueue[]) => Promise<void>,
): Promise<void> {
  const queues = await Promise.all(wanted.map((one) => openQueueAt(address, one)));
  try {
    await story(...queues);
  } finally {
    await Promise.all(queues.map((queue) => queue.close()));
  }
}

/** Performs tasks and remembers who performed which, as "process task". */
function remembering(seen: string[], name: string) {
  return async (task: Task) => {
    seen.push(`${name} ${nameOf(task)}`);
    return done;
  };
}

/** Takes all places of a process with tasks that hang until it stops. */
async function fillPlaces(sender: OpenQueue, queue: OpenQueue) {
  const held: string[] = [];
  const hanging = working(queue, async (task, _attempt, signal) => {
    held.push(nameOf(task));
    while (!signal.aborted) await sleep(5);
    throw signal.reason;
  });
  const full = Array.from({ length: 8 }, (_, n) => `full-${n}`);
  for (const [n, task] of full.entries()) await sender.tasks.send(taskOf(task, `m${n}`));
  await eventually(() => held.length === full.length, "its places to be taken");
  return { full, stop: hanging.stop };
}

const namesOf = (seen: string[]) => seen.map((entry) => entry.split(" ")[1]).toSorted();

/** `newAddress` is a place that nobody has used. Processes that die give their tasks back within seconds there. */
export function preferencePromises(name: string, newAddress: () => QueueAddress): void {
  describe(`tasks that prefer a process: ${name}`, () => {
    test("each process gets the tasks that prefer it, once each", () =>
      withQueues(newAddress(), [{ prefers }, ...PROCESSES.map((own) => ({ own }))], async (sender, ...takers) => {
        const seen: string[] = [];
        const works = takers.map((taker, n) => working(taker, remembering(seen, PROCESSES[n] ?? ""), 120));
        // A process of a busy machine may be late for its tasks, then others perform them.
        await eventually(async () => {
          seen.length = 0;
          await Promise.all(mailboxes.map((mailbox) => sender?.tasks.send(taskOf(mailbox, mailbox))));
          await eventually(() => seen.length >= mailboxes.length, "all tasks of the round");
          assert.deepEqual(namesOf(seen), mailboxes.toSorted());
          return seen.every((entry) => prefers[entry.split(" ")[1] ?? ""] === entry.split(" ")[0]);
        }, "a round in which each task went to the process that it prefers");
        await Promise.all(works.map((work) => work.stop()));
        await settled(takers[0] as OpenQueue, NOTHING_LEFT);
      }));

    test("what prefers a process that is not there, or one of an older version, is performed by any", () =>
      withQueues(newAddress(), [{ prefers: allPrefer("nobody") }, {}], async (sender, taker) => {
        const seen: string[] = [];
        const work = working(taker as OpenQueue, remembering(seen, "any"));
        for (const mailbox of mailboxes) await sender?.tasks.send(taskOf(mailbox, mailbox));
        await eventually(() => seen.length === mailboxes.length, "all tasks");
        await work.stop();
        assert.deepEqual(namesOf(seen), mailboxes.toSorted());
      }));

    test("a process that has its hands full shares the tasks that prefer it, and one that stops leaves them all", () =>
      withQueues(newAddress(), [{ prefers: allPrefer("one") }, { own: "one" }, {}], async (sender, busy, other) => {
        const hanging = await fillPlaces(sender as OpenQueue, busy as OpenQueue);
        const seen: string[] = [];
        const helping = working(other as OpenQueue, remembering(seen, "other"));
        for (const mailbox of mailboxes) await sender?.tasks.send(taskOf(mailbox, mailbox));
        await eventually(() => seen.length > 0, "tasks that it has no room for");
        await hanging.stop();
        await eventually(() => seen.length === mailboxes.length + 8, "those that it gave back");
        await helping.stop();
        assert.deepEqual(namesOf(seen), [...mailboxes, ...hanging.full].toSorted());
      }));

    test("a process whose tasks all hang leaves to one that comes later what waits for a place in it", () =>
      withQueues(newAddress(), [{}, {}, {}], async (sender, full, later) => {
        const hanging = await fillPlaces(sender as OpenQueue, full as OpenQueue);
        const more = mailboxes.slice(0, 10);
        for (const mailbox of more) await sender?.tasks.send(taskOf(mailbox, mailbox));
        // A broker gives a process more than it can start, when nobody else is there.
        await sleep(500);
        const seen: string[] = [];
        const helping = working(later as OpenQueue, remembering(seen, "later"));
        await eventually(() => seen.length === more.length, "what waits");
        await hanging.stop();
        await eventually(() => seen.length === more.length + 8, "those that it gave back");
        await helping.stop();
        assert.deepEqual(namesOf(seen), [...more, ...hanging.full].toSorted());
      }));

    test("kill -9 of the process that a burst prefers loses no task", async () => {
      const address = newAddress();
      await withQueues(address, [{ prefers: allPrefer("killed") }, {}], async (sender, other) => {
        const killed = processAt({ address, open: () => openQueueAt(address) }, { performMs: 20 }, "killed");
        await sender?.tasks.send(taskOf("first", "m0"));
        await eventually(() => killed.names("done").length === 1, "it to take tasks");
        const names = Array.from({ length: 300 }, (_, n) => `t${n}`);
        const sending = Promise.all(names.map((task, n) => sender?.tasks.send(taskOf(task, `m${n % 30}`))));
        await killed.killAfter("done", 20);
        await sending;
        const seen: string[] = [];
        const work = working(other as OpenQueue, remembering(seen, "other"));
        const finished = new Set(killed.names("done"));
        const isAll = () => new Set([...namesOf(seen), ...finished]).size === names.length + 1;
        await eventually(isAll, "every task to be performed to its end");
        await settled(other as OpenQueue, NOTHING_LEFT);
        await work.stop();
        assert.equal(new Set(seen).size, seen.length, "the other performed each once");
        const begun = new Set(killed.names("begun"));
        const twice = seen.filter((entry) => finished.has(entry.split(" ")[1] ?? ""));
        assert.ok(
          twice.every((entry) => begun.has(entry.split(" ")[1] ?? "")),
          "only what the killed process held came again",
        );
      });
    });

    test("while the process that tasks prefer stands still, others perform them, also those that it held", async () => {
      const address = newAddress();
      await withQueues(address, [{ prefers: allPrefer("still") }, {}], async (sender, other) => {
        const still = processAt({ address, open: () => openQueueAt(address) }, { performMs: 600_000 }, "still");
        await sender?.tasks.send(taskOf("held", "m0"));
        await eventually(() => still.names("begun").length === 1, "it to hold a task");
        still.pause();
        const seen: string[] = [];
        const work = working(other as OpenQueue, remembering(seen, "other"));
        for (const mailbox of mailboxes) await sender?.tasks.send(taskOf(mailbox, mailbox));
        // The broker closes a connection that says nothing for two heartbeats.
        await eventually(() => seen.length === mailboxes.length + 1, "all tasks", 120_000);
        await work.stop();
        assert.deepEqual(namesOf(seen), [...mailboxes, "held"].toSorted());
        await still.killAfter("begun", 1);
      });
    });
  });
}
