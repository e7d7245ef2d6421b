/** A process that takes tasks from RabbitMQ, to be killed; a task named poison kills it. */
import { setTimeout as sleep } from "node:timers/promises";
import { rabbitQueue } from "../../shared/queue/rabbitmq/queue.ts";
import { backoff } from "../../shared/time.ts";
import { nameOf } from "../promises/queues.ts";
import type { ChildOptions } from "../promises/rabbit-rig.ts";

// Given by the test that starts this.
const { url, taskMs, ...given } = JSON.parse(process.argv[2] ?? "") as ChildOptions;
const compressed = { delaysMs: [20, 100, 500], laneWaitsMs: [1000, 3000] };
const queue = rabbitQueue({ ...given, ...compressed, urls: [url], backoff, onFailed: () => undefined });
await queue.run(
  async (task) => {
    process.stdout.write(`begun ${nameOf(task)}\n`);
    if (nameOf(task) === "poison") process.kill(process.pid, "SIGKILL");
    await sleep(taskMs);
    process.stdout.write(`done ${nameOf(task)}\n`);
    return { kind: "done" };
  },
  { concurrency: 8 },
  new AbortController().signal,
);
