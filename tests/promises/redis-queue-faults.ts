/** What the queue in Redis promises beyond what every queue does: among several processes, and when processes or Redis fail. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { redisTasks } from "../../shared/queue/redis/tasks.ts";
import { redisKeys } from "../../shared/store/redis/keys.ts";
import { startProxy } from "../servers/proxy.ts";
import { type Redis, startRedis } from "../servers/redis.ts";
import { startRedisSentinel } from "../servers/redis-groups.ts";
import { eventually } from "../servers/waiting.ts";
import { nameOf, settled, taskOf, working } from "./queues.ts";
import { openRedisQueue, type OpenRedisQueue } from "./redis-queue-rig.ts";

const done = { kind: "done" } as const;

/** Opens queues at one place and closes them. */
async function withQueues(
  urls: string[],
  story: (...queues: [OpenRedisQueue, OpenRedisQueue]) => Promise<void>,
  more: Parameters<typeof openRedisQueue>[2] = {},
): Promise<void> {
  const prefix = randomUUID();
  const queues = await Promise.all(urls.map((url) => openRedisQueue(url, prefix, more)));
  try {
    await story(...(queues as [OpenRedisQueue, OpenRedisQueue]));
  } finally {
    await Promise.all(queues.map((queue) => queue.close()));
  }
}

/** A perform that counts what it did, each task for so long. */
function counting(seen: Map<string, number>, ms = 0) {
  return async (task: ReturnType<typeof taskOf>) => {
    await sleep(ms);
    seen.set(nameOf(task), (seen.get(nameOf(task)) ?? 0) + 1);
    return done;
  };
}

async function commandCount(redis: Redis): Promise<number> {
  const stats = String(await redis.command("INFO", "commandstats"));
  return [...stats.matchAll(/^cmdstat_(?!info)\S+:calls=(\d+)/gm)].reduce((sum, [, calls]) => sum + Number(calls), 0);
}

export function redisQueueFaults(redis: () => Redis): void {
  describe("the queue in Redis, among several processes", () => {
    test("two that take tasks share them, each task is performed once", () =>
      withQueues([redis().url, redis().url], async (one, two) => {
        const seen = new Map<string, number>();
        const works = [working(one, counting(seen, 2)), working(two, counting(seen, 2))];
        const names = Array.from({ length: 400 }, (_, n) => `t${n}`);
        await Promise.all(names.map((name, n) => one.tasks.send(taskOf(name, `m${n % 40}`))));
        await eventually(() => seen.size === 400, "all tasks");
        await Promise.all(works.map((work) => work.stop()));
        assert.ok([...seen.values()].every((times) => times === 1));
      }));

    test("one that waits hears of a task, and of an earlier time, sooner than it would look", () =>
      withQueues([redis().url, redis().url], async (one, two) => {
        const seen = new Map<string, number>();
        await one.tasks.send(taskOf("in a minute"), { notBefore: new Date(Date.now() + 60_000) });
        const work = working(two, counting(seen));
        await sleep(300);
        await one.tasks.send(taskOf("now"));
        await one.tasks.send(taskOf("soon"), { notBefore: new Date(Date.now() + 500) });
        await eventually(() => seen.size === 2, "both", 10_000);
        await work.stop();
      }));

    test("a task that takes longer than a claim stays with who performs it", () =>
      withQueues(
        [redis().url, redis().url],
        async (one, two) => {
          const seen = new Map<string, number>();
          await one.tasks.send(taskOf("long"));
          const first = working(one, counting(seen, 3_000));
          await settled(one, { ready: 0, delayed: 0, running: 1 });
          const second = working(two, counting(seen, 3_000));
          await eventually(() => seen.size === 1, "its end");
          await Promise.all([first.stop(), second.stop()]);
          assert.deepEqual([...seen], [["long", 1]]);
        },
        { claimMs: 600 },
      ));

    test("a process that is cut off loses its claim: another performs the task, and the first one's outcome changes nothing", async () => {
      const line = await startProxy({ port: redis().port });
      await withQueues(
        [`redis://127.0.0.1:${line.port}`, redis().url],
        async (cutOff, other) => {
          await other.tasks.send(taskOf("t"));
          let aborted = false;
          const first = working(cutOff, (_task, _attempt, signal) => {
            signal.addEventListener("abort", () => (aborted = true), { once: true });
            return eventually(() => aborted, "the loss of the claim").then(() => ({
              kind: "again",
              task: taskOf("again by the one that was cut off"),
              at: new Date(),
            }));
          });
          await settled(other, { ready: 0, delayed: 0, running: 1 });
          await line.set({ blackhole: true });
          const seen = new Map<string, number>();
          const second = working(other, counting(seen));
          await eventually(() => seen.size === 1, "the task at the other");
          await line.set({});
          line.resetAll();
          await eventually(() => aborted, "the end of the work that was cut off");
          await settled(other, { ready: 0, delayed: 0, running: 0 });
          await Promise.all([first.stop(), second.stop()]);
          assert.deepEqual([...seen], [["t", 1]]);
        },
        { claimMs: 1_000 },
      );
      await line.stop();
    });

    test("a task whose processes die is parked in the end, alone: others that they held go on", () =>
      withQueues([redis().url], async ({ tasks, redis: connection, prefix, failures }) => {
        const dying = redisTasks({ redis: connection, prefix: redisKeys(prefix).queuePrefix, claimMs: 1 });
        const names = ["poison", ...Array.from({ length: 7 }, (_, n) => `t${n}`)];
        for (const [n, name] of names.entries()) await tasks.send(taskOf(name, `m${n}`));
        const request = { wanted: 8, perLane: 2, running: new Map<string, number>() };
        // Each of them takes all eight and dies, until the eight are suspects: then one at a time.
        for (let deaths = 0; deaths < 10; deaths++) {
          const { tasks: taken } = await dying.claim(request);
          assert.equal(taken.length, 8, `after ${deaths} deaths`);
          await sleep(5);
        }
        for (let deaths = 0; deaths < 10; deaths++) {
          const { tasks: taken } = await dying.claim(request);
          assert.deepEqual(
            taken.map(({ lane }) => lane),
            ["m0"],
            "one suspect at a time",
          );
          await sleep(5);
        }
        const seen = new Map<string, number>();
        const work = working({ tasks, failures, close: async () => undefined }, counting(seen));
        await eventually(() => seen.size === 7 && failures.length === 1, "the others, and the report");
        await work.stop();
        assert.ok(!seen.has("poison"));
        assert.equal(failures[0]?.retryAt, null);
        const [parked, ...rest] = await tasks.parked(10);
        assert.equal(rest.length, 0);
        assert.deepEqual(parked?.task, taskOf("poison", "m0"));
        assert.match(parked?.reason ?? "", /20 times/);
      }));
  });

  describe("the queue in Redis, what it costs", () => {
    test("a waiting task takes less than half a kilobyte, and one that is done leaves nothing", async () => {
      const server = await startRedis({ settings: { appendfsync: "no" } });
      await withQueues([server.url], async ({ tasks, prefix, ...queue }) => {
        const memory = async () =>
          Number(/^used_memory:(\d+)/m.exec(String(await server.command("INFO", "memory")))?.[1]);
        const before = await memory();
        const names = Array.from({ length: 10_000 }, (_, n) => `t${n}`);
        for (let n = 0; n < names.length; n += 500)
          await Promise.all(names.slice(n, n + 500).map((name, k) => tasks.send(taskOf(name, `m${(n + k) % 500}`))));
        const perTask = ((await memory()) - before) / names.length;
        assert.ok(perTask < 512, `${perTask} bytes`);
        let performed = 0;
        const work = working({ ...queue, tasks }, async () => ((performed += 1), done), 64);
        await eventually(() => performed === names.length, "all tasks");
        await work.stop();
        const keys = (await server.command("KEYS", `${prefix}*`)) as string[];
        const leftBehind = keys.map((key) => key.slice(redisKeys(prefix).queuePrefix.length)).toSorted();
        assert.deepEqual(leftBehind, ["claims", "sequence", "turns"]);
      });
      await server.remove();
    });

    test("consumers without work ask Redis almost nothing", async () => {
      const server = await startRedis();
      await withQueues([server.url, server.url], async (one, two) => {
        const works = [working(one, async () => done), working(two, async () => done)];
        await sleep(500);
        const before = await commandCount(server);
        await sleep(3_000);
        const asked = (await commandCount(server)) - before;
        assert.ok(asked <= 20, `${asked} commands`);
        await Promise.all(works.map((work) => work.stop()));
      });
      await server.remove();
    });
  });

  describe("the queue in Redis, when Redis fails", () => {
    test("a consumer that has no room for another task reports the trouble when an outcome cannot be written", async () => {
      const server = await startRedis();
      await withQueues([server.url], async (queue) => {
        const performing = Promise.withResolvers<void>();
        const ended = Promise.withResolvers<void>();
        const perform = async () => {
          performing.resolve();
          await ended.promise;
          return done;
        };
        const work = working(queue, perform, 1);
        await queue.tasks.send(taskOf("t", "m"));
        await performing.promise;
        await server.kill();
        ended.resolve();
        await eventually(() => queue.troubles.length === 1, "the trouble to be said");
        await server.start();
        await eventually(() => queue.troubles.length === 2, "its end to be said");
        assert.deepEqual(
          queue.troubles.map((why) => why?.code ?? null),
          ["store", null],
        );
        await work.stop();
      });
      await server.remove();
    });

    test("kill -9 of Redis loses no task whose send resolved, nor what was being performed, and the consumers go on by themselves", async () => {
      const server = await startRedis();
      await withQueues([server.url, server.url], async (one, two) => {
        const seen = new Map<string, number>();
        const sent: string[] = [];
        const over = new AbortController();
        const sending = (async () => {
          for (let n = 0; !over.signal.aborted; n++)
            await one.tasks.send(taskOf(`t${n}`, `m${n % 8}`)).then(
              () => sent.push(`t${n}`),
              (error: unknown) => {
                assert.equal((error as { code?: string }).code, "store");
                return sleep(50);
              },
            );
        })();
        const work = working(two, counting(seen, 5));
        await eventually(() => sent.length >= 100, "a hundred tasks");
        await server.kill();
        await eventually(() => two.troubles.length === 1, "the trouble to be said");
        await server.start();
        const before = sent.length;
        await eventually(() => sent.length >= before + 100, "a hundred more");
        over.abort();
        await sending;
        await eventually(() => sent.every((name) => seen.has(name)), "all that was sent");
        assert.deepEqual(
          two.troubles.map((why) => why?.code ?? null),
          ["store", null],
        );
        await work.stop();
        await settled(two, { ready: 0, delayed: 0, running: 0 });
      });
      await server.remove();
    });

    test("a Redis that hangs: send throws in time, and the signal ends it sooner", async () => {
      const server = await startRedis();
      await withQueues([server.url], async ({ tasks }) => {
        await server.pause();
        const reason = new Error("no longer wanted");
        const stop = new AbortController();
        const aborted = tasks.send(taskOf("t"), {}, stop.signal);
        stop.abort(reason);
        await assert.rejects(aborted, reason);
        await assert.rejects(tasks.send(taskOf("t")), { code: "store", retry: "later" });
        await server.resume();
        await eventually(
          () =>
            tasks.send(taskOf("t")).then(
              () => true,
              () => false,
            ),
          "Redis to be back",
        );
      });
      await server.remove();
    });

    test("after Sentinel made the replica master, tasks are sent and performed there", async () => {
      const group = await startRedisSentinel();
      await withQueues([group.url, group.url], async (one, two) => {
        const seen = new Map<string, number>();
        const work = working(two, counting(seen));
        await one.tasks.send(taskOf("before"));
        await eventually(() => seen.has("before"), "the task before");
        await group.members[0]?.program.kill();
        const sent = () =>
          one.tasks.send(taskOf("after")).then(
            () => true,
            () => false,
          );
        await eventually(sent, "a task after the fail-over", 20_000, 200);
        await eventually(() => seen.has("after"), "the task after");
        await work.stop();
      });
      await group.remove();
    });
  });
}
