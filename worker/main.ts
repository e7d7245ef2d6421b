/** The worker node's composition root: takes tasks from the broker and does them; answers health and metrics on a port of its own. */
import process from "node:process";
import manifest from "../package.json" with { type: "json" };
import { type Config, readConfig } from "../shared/config.ts";
import { asProblem, Problem } from "../shared/contract/problem.ts";
import { type Node, openNode } from "../shared/node.ts";
import { joinCluster } from "../shared/nodes/cluster.ts";
import { tasksNow } from "../shared/queue/depth.ts";
import { type Part, runInside, untilStopped } from "../shared/run.ts";
import type { TaskSender } from "../shared/queue/queue.ts";
import { history } from "../shared/telemetry/history.ts";
import { metrics } from "../shared/telemetry/metrics.ts";
import { healthServer } from "./health.ts";
import { worker } from "./tasks/dispatch.ts";

/** Tasks done at once while the broker is away: those that this worker's own tasks bring with them. */
const STAND_IN_CONCURRENCY = 8;

/** Runs a worker until the signal aborts; resolves once everything is closed. Rejects when it cannot start or a part fails. */
export async function workerNode(config: Config, stop: AbortSignal): Promise<void> {
  if (config.RABBITMQ_URL.length === 0) {
    const why = "A worker takes its tasks from RabbitMQ: set RABBITMQ_URL and REDIS_URL as for the API nodes";
    throw new Problem("config", why, { retry: "never", errors: [{ path: "RABBITMQ_URL", message: "must be set" }] });
  }
  const node = await openNode(config);
  try {
    await runWorker(node, stop);
  } finally {
    await node.close();
  }
}

async function runWorker(node: Node, stop: AbortSignal): Promise<void> {
  const { config, store, queue, facts, redis } = node;
  if (redis === undefined) throw new Problem("config", "A worker needs REDIS_URL", { retry: "never" });
  const { emit } = facts;
  const tasks: TaskSender = { send: (task, options) => sender.send(task, options) };
  const work = worker({ ...node, tasks, emit, watched: new Map(), overdueMs: queue.overdueMs });
  const sender = queue.sender(work.perform, { concurrency: STAND_IN_CONCURRENCY }, stop);
  const cluster = await joinCluster({ ...node, redis }, { role: "worker", capacity: 0, mailboxes: () => 0 });
  const measured = metrics(async () => ({
    mailboxes: { byStatus: {} },
    deliveries: await store.deliveries.counts(),
    tasks: (await tasksNow(queue)).tasks,
    connections: { open: work.readers.count() },
  }));
  facts.subscribe(measured.listen);
  const health = await healthServer({ host: config.HOST, port: config.PORT }, { ready: () => store.ping(), measured });
  const on = { store: store.description, queue: queue.description };
  emit({ kind: "service.started", version: manifest.version, url: health.url, ...on });
  const parts: Part[] = [
    {
      name: "tasks",
      run: (signal) => queue.run(work.perform, { concurrency: config.WORKER_CONCURRENCY, standIn: false }, signal),
    },
    ...work.parts,
  ];
  try {
    await runInside([history({ facts, append: store.facts.append }), ...cluster.parts], parts, stop);
  } finally {
    await health.close();
    await work.close();
  }
}

async function main(): Promise<void> {
  try {
    const config = readConfig(process.env);
    await workerNode(
      config,
      untilStopped((name) => console.error(`${name}: stopping, once more to exit now`)),
    );
  } catch (error) {
    const problem = asProblem(error);
    console.error(`The worker cannot run: ${problem.message}\n${problem.fix}`);
    process.exitCode = 1;
  }
}

if (import.meta.main) await main();
