/** Queues on a real RabbitMQ for tests, each with names of its own, and consumers in processes that can be killed. */
import { isStoreAway } from "./node-faults.ts";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { connect } from "amqplib";
import type { Problem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import type { TaskFailure } from "../../shared/queue/queue.ts";
import { type RabbitOptions, type RabbitQueue, rabbitQueue } from "../../shared/queue/rabbitmq/queue.ts";
import { taskMessage } from "../../shared/queue/rabbitmq/message.ts";
import { backoffs } from "../../shared/time.ts";
import type { RabbitMq } from "../servers/rabbitmq.ts";
import { nameOf } from "./queues.ts";

export type QueueType = "quorum" | "classic";
export type RabbitRig = RabbitMq & { tlsPort: number; ca: string };
export type OpenRabbit = {
  tasks: RabbitQueue;
  failures: TaskFailure[];
  away: Problem[];
  back: number[];
  options: RabbitOptions;
  sendMany(tasks: Task[]): Promise<void>;
  close(): Promise<void>;
};

/** Names nobody has used yet. */
export function namer(): (queueType: QueueType) => string {
  const run = randomUUID().slice(0, 8);
  let names = 0;
  return (queueType) => `${run}.${queueType}.${++names}`;
}

/** What the tests wait for takes a hundredth of the time it takes in production, or less. */
export function optionsFor(url: string, name: string, queueType: QueueType): RabbitOptions {
  return {
    urls: [url],
    exchange: name,
    queue: name,
    queueType,
    backoff: backoffs(0.01),
    onFailed: () => undefined,
    delaysMs: [20, 100, 500],
    laneWaitsMs: [1000, 3000],
    confirmMs: 5000,
  };
}

/** Opens a queue and waits until it stands, unless told not to. */
export async function openRabbit(given: RabbitOptions, readyMs = 20_000, own?: string): Promise<OpenRabbit> {
  const failures: TaskFailure[] = [];
  const away: Problem[] = [];
  const back: number[] = [];
  const options: RabbitOptions = {
    ...given,
    isNodeFault: isStoreAway,
    onFailed: (failure) => void failures.push(failure),
    onAway: (why) => void away.push(why),
    onBack: (ms) => void back.push(ms),
  };
  const queue = rabbitQueue(options);
  // A test that fails leaves its consumers running; they end with the queue.
  const closing = new AbortController();
  const runs = new Set<Promise<void>>();
  const run: RabbitQueue["run"] = (perform, work, signal) => {
    const running = queue.run(
      perform,
      { ...work, ...(own !== undefined && { own }) },
      AbortSignal.any([signal, closing.signal]),
    );
    runs.add(running);
    return running;
  };
  const close = async () => {
    closing.abort();
    await Promise.allSettled(runs);
    await queue.close();
  };
  try {
    if (readyMs > 0) await queue.ready(readyMs);
  } catch (error) {
    await close();
    throw error;
  }
  const sendMany = (tasks: Task[]) => publishMany(options, tasks);
  return { tasks: { ...queue, run }, failures, away, back, options, sendMany, close };
}

/** Publishes tasks past the queue under test, with one wait for all confirms. */
async function publishMany({ urls: [url = ""], exchange, queue }: RabbitOptions, tasks: Task[]): Promise<void> {
  const connection = await connect(url);
  const channel = await connection.createConfirmChannel();
  for (const task of tasks) {
    const { content, to, ...properties } = taskMessage(queue, task, {});
    channel.publish(exchange, to, content, { ...properties, persistent: true });
  }
  await channel.waitForConfirms();
  await connection.close();
}

const child = fileURLToPath(new URL("../children/rabbit.ts", import.meta.url));

export type ChildOptions = Pick<RabbitOptions, "exchange" | "queue" | "queueType"> & {
  url: string;
  deliveryLimit?: number;
  /** How long each task takes; a task named poison kills the process. */
  taskMs: number;
};

/** A process that takes tasks. `lines` are "begun x" and "done x". */
export function childConsumer(options: ChildOptions) {
  const runtime = "deno" in process.versions ? ["run", "-A", "--no-check"] : [];
  const args = [...runtime, child, JSON.stringify(options)];
  const started = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(started, "close");
  let said = "";
  started.stdout.setEncoding("utf8").on("data", (text: string) => (said += text));
  return {
    lines: () => said.split("\n").slice(0, -1),
    ended: closed,
    async kill() {
      started.kill("SIGKILL");
      await closed;
    },
  };
}

/** A perform that remembers the names of what it did. */
export function remembering(seen: string[]) {
  return async (task: Task) => {
    seen.push(nameOf(task));
    return { kind: "done" } as const;
  };
}
