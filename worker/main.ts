#!/usr/local/bin/runtime
/**
 * Starts a worker node: it takes tasks from RabbitMQ and performs them, and it serves health checks and metrics on a
 * port.
 */
import process from "node:process";
import manifest from "../package.json" with { type: "json" };
import { type Config, readConfig } from "../shared/config.ts";
import { listSettingWarnings } from "../shared/setting-warnings.ts";
import { asProblem, Problem } from "../shared/contract/problem.ts";
import { portOfUrl } from "../shared/egress.ts";
import { type Node, openNode } from "../shared/node.ts";
import { joinCluster } from "../shared/nodes/cluster.ts";
import { findWorkerFault } from "../shared/queue/broker-state.ts";
import { getTaskDepth } from "../shared/queue/depth.ts";
import type { ReadinessCheck } from "../shared/readiness.ts";
import { type Part, runInside, shutdownSignal } from "../shared/run.ts";
import { history } from "../shared/telemetry/history.ts";
import { metrics } from "../shared/telemetry/metrics.ts";
import { tallies } from "../shared/telemetry/tallies.ts";
import { healthServer } from "./health.ts";
import { worker } from "./tasks/dispatch.ts";

/**
 * Runs a worker until the signal aborts, and resolves once everything is closed. Rejects if it cannot start, or if a
 * part of it fails.
 */
export async function runWorkerNode(config: Config, stop: AbortSignal, warnings: readonly string[]): Promise<void> {
  if (config.RABBITMQ_URL.length === 0) {
    const why = "A worker takes its tasks from RabbitMQ: set RABBITMQ_URL and REDIS_URL as for the API nodes";
    throw new Problem("config", why, { retry: "never", errors: [{ path: "RABBITMQ_URL", message: "must be set" }] });
  }
  const node = await openNode(config, warnings);
  try {
    await runWorker(node, stop);
  } finally {
    await node.close();
  }
}

async function runWorker(node: Node, stop: AbortSignal): Promise<void> {
  const { config, store, queue, facts, redis, readiness } = node;
  if (redis === undefined) throw new Problem("config", "A worker needs REDIS_URL", { retry: "never" });
  const { emit } = facts;
  const { WORKER_CONCURRENCY: concurrency } = config;
  const work = worker({ ...node, store: node.served, tasks: queue, emit, watched: new Map(), concurrency });
  const cluster = await joinCluster({ ...node, redis }, { role: "worker", capacity: 0, mailboxes: () => 0 });
  const measured = metrics({
    ping: store.ping,
    store: async () => ({ mailboxes: { byStatus: {} }, deliveries: await store.deliveries.getCounts() }),
    tasks: async () => (await getTaskDepth(queue)).tasks,
    node: () => ({
      connections: { open: work.readers.count() },
      isReady: readiness.problem === null,
      isQueueUp: !queue.broker?.().sending.problem,
    }),
  });
  facts.subscribe(measured.onFact);
  const check = async (): Promise<ReadinessCheck[]> => {
    const broker = queue.broker?.();
    return [...(await readiness.check()), { name: "queue", problem: broker ? findWorkerFault(broker) : null }];
  };
  const health = await healthServer({ host: config.HOST, port: config.PORT }, { check, measured });
  node.ownPorts.add(portOfUrl(new URL(health.url)));
  const backends = { store: store.description, queue: queue.description };
  emit({ kind: "service.started", version: manifest.version, url: health.url, ...backends });
  const options = { concurrency: work.inHand, standIn: false };
  const takeTasks = (signal: AbortSignal) => queue.run(work.perform, options, signal);
  const parts: Part[] = [
    {
      name: "tasks",
      run: (signal) => readiness.runWhileReady(takeTasks, signal),
    },
    ...work.parts,
  ];
  try {
    const looking = { name: "readiness", run: readiness.run };
    const recording = [history({ facts, append: store.facts.append }), tallies({ facts, count: store.measures.count })];
    await runInside([...recording, looking, ...cluster.parts], parts, stop);
  } finally {
    await health.close();
    await work.close();
  }
}

async function main(): Promise<void> {
  try {
    const config = readConfig(process.env);
    await runWorkerNode(
      config,
      shutdownSignal((name) => console.error(`${name}: stopping, once more to exit now`)),
      listSettingWarnings(process.env),
    );
  } catch (error) {
    const problem = asProblem(error);
    console.error(`The worker cannot run: ${problem.message}\n${problem.fix}`);
    process.exitCode = 1;
  }
}

if (import.meta.main) await main();
