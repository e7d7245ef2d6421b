/** Opens the store and the queue of a node by its settings: the embedded ones, Redis alone, or Redis with RabbitMQ. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "./config.ts";
import { Problem } from "./contract/problem.ts";
import type { BrokerState } from "./queue/broker-state.ts";
import { failoverQueue } from "./queue/failover.ts";
import type { RedisQueue } from "./queue/redis/queue.ts";
import { sqliteQueue } from "./queue/sqlite/queue.ts";
import { type NodePreference, nodePreference } from "./queue/preference.ts";
import type { PerformTask, TaskFailure, TaskQueue } from "./queue/queue.ts";
import { parseRabbitUrl } from "./queue/rabbitmq/address.ts";
import type { BrokerView } from "./queue/rabbitmq/queue.ts";
import { parseRedisUrl } from "./store/redis/connection/url.ts";
import type { RedisConnection } from "./store/redis/connection/client.ts";
import { type NodeReadiness, nodeReadiness } from "./readiness.ts";
import { loadEncryptionKeys } from "./store/encryption-keys.ts";
import type { Store } from "./store/store.ts";
import { sqliteStore } from "./store/sqlite/store.ts";
import { type KeyName, type Vault, vault } from "./store/vault.ts";
import type { Emit } from "./telemetry/events.ts";
import type { Backoff } from "./time.ts";

export type NodeQueue = Omit<TaskQueue, "run"> & {
  /** For the line that a node logs at its start. It has no passwords. */
  readonly description: string;
  /** What is known about the broker. Undefined for a queue without one. */
  readonly broker?: () => BrokerState;
  /** Takes tasks until the signal aborts. With `standIn`, only those that no worker has room for. */
  run(perform: PerformTask, options: { concurrency: number; standIn: boolean }, signal: AbortSignal): Promise<void>;
};

export type Backends = {
  store: Store;
  queue: NodeQueue;
  /** Which process the tasks that this node sends prefer. A node alone has no use for it. */
  preference: NodePreference;
  readiness: NodeReadiness;
  /** The names of the encryption keys that this node has. */
  keyring: readonly KeyName[];
  /** See `Vault.marks`. */
  marks: Vault["marks"];
  /** Asks RabbitMQ about itself. Undefined without RABBITMQ_URL. */
  inspectBroker: (() => Promise<BrokerView>) | undefined;
  /** Encrypts by the first of these keys, and decrypts by all. */
  sealing: Pick<Vault, "seal" | "open" | "marks">;
  /** The connection that the nodes coordinate through. Undefined for a node that is alone. */
  redis: RedisConnection | undefined;
  warnings: readonly string[];
  /** Must be called after everything that uses the backends has ended. */
  close(): Promise<void>;
};

/** `name` is that of the node. */
type OpenBackendsDeps = { config: Config; emit: Emit; backoff: Backoff; name: string };

/** How long a start waits for RabbitMQ before it goes on without it. */
const BROKER_TIMEOUT_MS = 5_000;

/**
 * Opens the backends. Throws a Problem that names the setting if the store cannot be used. If RabbitMQ is away, it only
 * warns, because the tasks wait in Redis meanwhile.
 */
export async function openBackends(deps: OpenBackendsDeps): Promise<Backends> {
  const secretVault = vault(await loadEncryptionKeys(deps.config));
  return deps.config.REDIS_URL ? openShared(deps, secretVault) : openEmbedded(deps, secretVault);
}

async function openEmbedded({ config, emit, backoff }: OpenBackendsDeps, secretVault: Vault): Promise<Backends> {
  const store = await sqliteStore({ path: sqlitePath(config), vault: secretVault, ...storeLimits(config) });
  const readiness = nodeReadiness({ store, emit });
  const { isNodeFault } = readiness;
  const queue = sqliteQueue({ database: store.database, backoff, isNodeFault, onFailed: taskFailureReporter(emit) });
  return {
    store,
    readiness,
    keyring: secretVault.keyring,
    marks: secretVault.marks,
    inspectBroker: undefined,
    sealing: secretVault,
    queue: { ...queue, description: "in process" },
    preference: nodePreference(),
    redis: undefined,
    warnings: [],
    close: () => store.close(),
  };
}

/** The file of the embedded store, or `:memory:`. */
export function sqlitePath({ DATA_DIR }: Pick<Config, "DATA_DIR">): string {
  return DATA_DIR === ":memory:" ? DATA_DIR : join(DATA_DIR, "email-listener.db");
}

/** The clients of Redis and RabbitMQ are loaded only where they are used, because they need memory. */
async function openShared(deps: OpenBackendsDeps, secretVault: Vault): Promise<Backends> {
  const { config } = deps;
  const { redisStore } = await import("./store/redis/store.ts");
  const store = await redisStore({ ...(await redisOptions(config)), vault: secretVault, ...storeLimits(config) });
  const readiness = nodeReadiness({ store, emit: deps.emit });
  const { isNodeFault } = readiness;
  const hasBroker = config.RABBITMQ_URL.length > 0;
  const preference = hasBroker ? nodePreference() : nodePreference(deps.name);
  const queueDeps = { ...deps, isNodeFault, preference };
  const inRedis = await openRedisQueue(queueDeps, store.redis);
  const broker = hasBroker ? await openRabbit(queueDeps, inRedis) : undefined;
  return {
    store,
    readiness,
    keyring: secretVault.keyring,
    marks: secretVault.marks,
    inspectBroker: broker?.inspect,
    sealing: secretVault,
    queue: broker?.queue ?? redisAlone(inRedis, deps.name),
    preference,
    redis: store.redis,
    warnings: [...store.warnings, ...(broker?.warnings ?? [])],
    async close() {
      await broker?.close();
      await store.close();
    },
  };
}

type OpenQueueDeps = OpenBackendsDeps & Pick<NodeReadiness, "isNodeFault"> & { preference: NodePreference };

function redisAlone(inRedis: RedisQueue, own: string): NodeQueue {
  return {
    ...inRedis,
    description: "redis, each node performs tasks",
    run: (perform, { concurrency }, signal) => inRedis.run(perform, { concurrency, own }, signal),
  };
}

async function openRedisQueue(
  { config, emit, backoff, isNodeFault, preference }: OpenQueueDeps,
  redis: RedisConnection,
) {
  const [{ redisQueue }, { redisKeys }] = await Promise.all([
    import("./queue/redis/queue.ts"),
    import("./store/redis/keys.ts"),
  ]);
  return redisQueue({
    redis,
    keys: redisKeys(config.REDIS_PREFIX),
    claimMs: config.CLAIM_SECONDS * 1000,
    backoff,
    isNodeFault,
    preference,
    onFailed: taskFailureReporter(emit),
    onTrouble(why) {
      if (why === null) return;
      const failure = { code: why.code, cause: why.message };
      emit({ kind: "service.failed", what: "taking tasks from Redis", failure });
    },
  });
}

async function openRabbit(
  { config, emit, backoff, name, isNodeFault, preference }: OpenQueueDeps,
  standIn: RedisQueue,
) {
  const { rabbitQueue } = await import("./queue/rabbitmq/queue.ts");
  const broker = rabbitQueue({
    ...(await brokerOptions(config)),
    backoff,
    isNodeFault,
    preference,
    onFailed: taskFailureReporter(emit),
    onAway: ({ code, message }) => emit({ kind: "queue.connection_failed", failure: { code, cause: message } }),
    onBack: (ms) => emit({ kind: "queue.recovered", ms }),
    onWarning: (about) => emit({ kind: "service.warned", about }),
  });
  const warnings = await broker.ready(BROKER_TIMEOUT_MS).then(
    () => [],
    (error: unknown) => [
      `RabbitMQ cannot be reached yet. Tasks wait in Redis, and the nodes perform them: ${String(error)}`,
    ],
  );
  const failover = failoverQueue({ broker, standIn });
  const queue: NodeQueue = {
    ...failover,
    description: broker.description,
    broker: broker.state,
    run: (perform, { concurrency, standIn: isStandIn }, signal) =>
      failover.run(perform, { concurrency, ...(isStandIn ? { priority: STAND_IN_PRIORITY } : { own: name }) }, signal),
  };
  return { queue, warnings, inspect: broker.inspect, close: broker.close };
}

/** Lower than the priority of the workers: RabbitMQ gives a stand-in only what no worker has room for. */
const STAND_IN_PRIORITY = -10;

/** Redis and RabbitMQ by host and port. The clients of Sentinel and Cluster learn further servers by themselves. */
export function backendServers(config: Config): { host: string; port: number; discovers: boolean }[] {
  const redis = config.REDIS_URL ? parseRedisUrl(config.REDIS_URL.reveal()) : undefined;
  const brokers = config.RABBITMQ_URL.map((url) => parseRabbitUrl(url.reveal()).server);
  return [
    ...(redis?.hosts ?? []).map((one) => ({ ...one, discovers: redis?.kind !== "single" })),
    ...brokers.map((one) => ({ ...one, discovers: false })),
  ];
}

/** The address of the shared store. Throws `config` if the file that REDIS_CA names cannot be read. */
export async function redisOptions(config: Config) {
  const ca = await readCa(config, "REDIS_CA");
  return { url: config.REDIS_URL?.reveal() ?? "", ca, prefix: config.REDIS_PREFIX };
}

/**
 * The address of RabbitMQ and the names that the service uses there. Throws `config` if the file that RABBITMQ_CA names
 * cannot be read.
 */
export async function brokerOptions(config: Config) {
  return {
    urls: config.RABBITMQ_URL.map((url) => url.reveal()),
    ca: await readCa(config, "RABBITMQ_CA"),
    exchange: config.RABBITMQ_EXCHANGE,
    queue: config.RABBITMQ_QUEUE,
    queueType: config.RABBITMQ_QUEUE_TYPE,
  };
}

/** The certificates of the trusted authorities in PEM. Undefined means those of the system. */
async function readCa(config: Config, setting: "REDIS_CA" | "RABBITMQ_CA"): Promise<string | undefined> {
  const pemOrPath = config[setting];
  const pemHeader = "-----BEGIN CERTIFICATE-----";
  if (pemOrPath === "" || pemOrPath.includes(pemHeader)) return pemOrPath || undefined;
  const toCaProblem = (why: string, cause?: unknown) =>
    new Problem("config", `${setting}: ${why}`, { retry: "never", errors: [{ path: setting, message: why }], cause });
  // Other PEM may be a private key. The message must not show it as the name of a file.
  if (pemOrPath.includes("-----BEGIN")) throw toCaProblem("holds no certificate in PEM");
  const text = await readFile(pemOrPath, "utf8").catch((error: unknown) => {
    throw toCaProblem(`the file ${pemOrPath} cannot be read`, error);
  });
  if (!text.includes(pemHeader)) throw toCaProblem(`the file ${pemOrPath} holds no certificate in PEM`);
  return text;
}

function storeLimits(config: Config) {
  return { windowDays: config.WINDOW_DAYS, spoolBytes: config.SPOOL_BYTES };
}

function taskFailureReporter(emit: Emit): (failure: TaskFailure) => void {
  return ({ task, mailbox, attempt, problem: { code, message }, retryAt }) => {
    const retryTime = retryAt?.toISOString() ?? null;
    emit({
      kind: "task.failed",
      task: task?.kind ?? "unknown",
      mailbox,
      attempt,
      failure: { code, cause: message },
      retryAt: retryTime,
    });
  };
}
