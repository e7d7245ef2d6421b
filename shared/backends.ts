/** Which store and which queue a node stands on, by its settings: the embedded ones, Redis alone, or Redis with RabbitMQ. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "./config.ts";
import { Problem } from "./contract/problem.ts";
import { fallbackQueue } from "./queue/redis/queue.ts";
import { inlineQueue } from "./queue/sqlite/queue.ts";
import type { ParkedTasks, Perform, TaskDepth, TaskFailure, TaskSender } from "./queue/queue.ts";
import type { RedisConnection } from "./store/redis-client.ts";
import { loadKeys } from "./store/encryption-keys.ts";
import type { Store } from "./store/store.ts";
import { sqliteStore } from "./store/sqlite/store.ts";
import { type Vault, vault } from "./store/vault.ts";
import type { Emit } from "./telemetry/events.ts";
import type { Backoff } from "./time.ts";

export type NodeQueue = {
  /** For the start line, without passwords. */
  readonly description: string;
  /** Where tasks are sent; while nobody else can do them they are performed here, at most `concurrency` at once. */
  sender(perform: Perform, options: { concurrency: number }, signal: AbortSignal): TaskSender;
  /** Takes tasks until the signal aborts. `standIn`: only those that no worker has room for. */
  run(perform: Perform, options: { concurrency: number; standIn: boolean }, signal: AbortSignal): Promise<void>;
  depth(): Promise<TaskDepth>;
  /** Only a broker parks tasks; elsewhere one that can never be done is told as a fact and dropped. */
  readonly parked: ParkedTasks;
  /** A retrying delivery overdue by this much has no task any more. */
  readonly overdueMs: number;
};

export type Backends = {
  store: Store;
  queue: NodeQueue;
  /** What nodes agree through; undefined for a node that is alone. */
  redis: RedisConnection | undefined;
  warnings: readonly string[];
  /** After everything that uses them has ended. */
  close(): Promise<void>;
};

type Deps = { config: Config; emit: Emit; backoff: Backoff };

const OVERDUE_MS = 120_000;
const NOTHING_PARKED: ParkedTasks = {
  parked: async () => [],
  replayParked: async () => 0,
  dropParked: async () => 0,
};
/** How long a start waits for a broker before it goes on without. */
const BROKER_MS = 5_000;

/**
 * Opens the backends. Throws a Problem that names the setting when the store cannot be used; a broker that is away is only warned
 * of, because the node does its work meanwhile.
 */
export async function openBackends(deps: Deps): Promise<Backends> {
  const keys = vault(await loadKeys(deps.config));
  return deps.config.REDIS_URL ? shared(deps, keys) : embedded(deps, keys);
}

async function embedded({ config, emit, backoff }: Deps, keys: Vault): Promise<Backends> {
  const path = config.DATA_DIR === ":memory:" ? config.DATA_DIR : join(config.DATA_DIR, "email-listener.db");
  const store = await sqliteStore({ path, vault: keys, ...bounds(config) });
  const queue = inlineQueue({ database: store.database, backoff, onFailed: failed(emit) });
  return {
    store,
    queue: {
      description: "in process",
      sender: () => queue,
      run: (perform, { concurrency }, signal) => queue.run(perform, { concurrency }, signal),
      depth: queue.depth,
      parked: NOTHING_PARKED,
      overdueMs: OVERDUE_MS,
    },
    redis: undefined,
    warnings: [],
    close: () => store.close(),
  };
}

/** The clients of Redis and RabbitMQ are loaded only where they are used: a node that is alone does without their memory. */
async function shared(deps: Deps, keys: Vault): Promise<Backends> {
  const { config } = deps;
  const { redisStore } = await import("./store/redis/store.ts");
  const store = await redisStore({ ...(await redisPlace(config)), vault: keys, ...bounds(config) });
  const broker = config.RABBITMQ_URL.length > 0 ? await rabbit(deps) : undefined;
  return {
    store,
    queue: broker?.queue ?? withoutBroker(deps),
    redis: store.redis,
    warnings: [...store.warnings, ...(broker?.warnings ?? [])],
    async close() {
      await broker?.close();
      await store.close();
    },
  };
}

async function rabbit({ config, emit, backoff }: Deps) {
  const { rabbitQueue } = await import("./queue/rabbitmq/queue.ts");
  const onFailed = failed(emit);
  const broker = rabbitQueue({
    ...(await brokerPlace(config)),
    backoff,
    onFailed,
    onAway: ({ code, message }) => emit({ kind: "queue.away", failure: { code, cause: message } }),
    onBack: (ms) => emit({ kind: "queue.back", ms }),
  });
  const missing = await broker.ready(BROKER_MS).then(
    () => [],
    (error: unknown) => [`RabbitMQ is not there yet, tasks are done by the nodes themselves: ${String(error)}`],
  );
  const queue: NodeQueue = {
    description: broker.description,
    sender: (perform, work, signal) => fallbackQueue({ broker, perform, backoff, onFailed }, work, signal),
    run: (perform, { concurrency, standIn }, signal) =>
      broker.run(perform, { concurrency, ...(standIn && { priority: STAND_IN }) }, signal),
    depth: broker.counts,
    parked: broker,
    overdueMs: OVERDUE_MS,
  };
  return { queue, warnings: missing, close: broker.close };
}

/** Below any worker's: the broker gives a stand-in only what no worker has room for. */
const STAND_IN = -10;

/**
 * Redis alone: every task is performed by the node that sends it before its cursor moves, and the retries of deliveries, whose
 * records say when they are due, are found by looking.
 */
function withoutBroker({ emit, backoff }: Deps): NodeQueue {
  const why = new Problem("queue", "There is no broker: each node does its own tasks");
  const broker = { trouble: () => why, send: () => Promise.reject(why) };
  return {
    description: "none, each node does its own tasks",
    sender: (perform, work, signal) =>
      fallbackQueue({ broker, perform, backoff, onFailed: failed(emit) }, work, signal),
    run: (_perform, _options, signal) =>
      new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true })),
    depth: async () => ({ ready: 0, delayed: 0, running: 0 }),
    parked: NOTHING_PARKED,
    overdueMs: 0,
  };
}

/** Where the shared store is. Throws `config` when the file that REDIS_CA names cannot be read. */
export async function redisPlace(config: Config) {
  const ca = await authority(config, "REDIS_CA");
  return { url: config.REDIS_URL?.reveal() ?? "", ca, prefix: config.REDIS_PREFIX };
}

/** Where the broker is and what is ours there. Throws `config` when the file that RABBITMQ_CA names cannot be read. */
export async function brokerPlace(config: Config) {
  return {
    urls: config.RABBITMQ_URL.map((url) => url.reveal()),
    ca: await authority(config, "RABBITMQ_CA"),
    exchange: config.RABBITMQ_EXCHANGE,
    queue: config.RABBITMQ_QUEUE,
    queueType: config.RABBITMQ_QUEUE_TYPE,
  };
}

/** PEM of the authorities to trust; undefined for those of the system. */
async function authority(config: Config, setting: "REDIS_CA" | "RABBITMQ_CA"): Promise<string | undefined> {
  const given = config[setting];
  const begin = "-----BEGIN CERTIFICATE-----";
  if (given === "" || given.includes(begin)) return given || undefined;
  const wrong = (why: string, cause?: unknown) =>
    new Problem("config", `${setting}: ${why}`, { retry: "never", errors: [{ path: setting, message: why }], cause });
  // Something else in PEM may be a private key: it must not be shown as the name of a file.
  if (given.includes("-----BEGIN")) throw wrong("holds no certificate in PEM");
  const text = await readFile(given, "utf8").catch((error: unknown) => {
    throw wrong(`the file ${given} cannot be read`, error);
  });
  if (!text.includes(begin)) throw wrong(`the file ${given} holds no certificate in PEM`);
  return text;
}

function bounds(config: Config) {
  return { windowDays: config.WINDOW_DAYS, spoolBytes: config.SPOOL_BYTES };
}

function failed(emit: Emit): (failure: TaskFailure) => void {
  return ({ task, mailbox, attempt, problem: { code, message }, retryAt }) => {
    const when = retryAt?.toISOString() ?? null;
    emit({
      kind: "task.failed",
      task: task?.kind ?? "unknown",
      mailbox,
      attempt,
      failure: { code, cause: message },
      retryAt: when,
    });
  };
}
