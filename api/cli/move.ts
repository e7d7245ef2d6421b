/**
 * The `move` command: takes everything an embedded node remembers into the Redis (and RabbitMQ) of a node among several. It can be
 * interrupted and run again; the file it reads stays as it was.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { brokerPlace, redisPlace } from "../../shared/backends.ts";
import { type Config, readConfig } from "../../shared/config.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import { rabbitQueue } from "../../shared/queue/rabbitmq/queue.ts";
import { redisStore } from "../../shared/store/redis/store.ts";
import { loadKeys } from "../../shared/store/encryption-keys.ts";
import { sqliteStore } from "../../shared/store/sqlite/store.ts";
import { vault } from "../../shared/store/vault.ts";
import { backoff } from "../../shared/time.ts";
import { type Moved, moveAll } from "./move-store.ts";

const BROKER_MS = 30_000;

/**
 * Moves what lies in DATA_DIR to REDIS_URL and RABBITMQ_URL and returns what was moved. Throws `store` while a node runs on that file,
 * and `config` naming the setting that is missing.
 */
export async function move(config: Config): Promise<Moved> {
  const path = join(config.DATA_DIR, "email-listener.db");
  if (!config.REDIS_URL) throw missing("REDIS_URL", "must name the Redis to move to");
  if (!existsSync(path)) throw missing("DATA_DIR", `holds no embedded store: there is no ${path}`);
  const bounds = { windowDays: config.WINDOW_DAYS, spoolBytes: config.SPOOL_BYTES };
  const from = await sqliteStore({ path, vault: vault(await sourceKeys(config)), ...bounds });
  try {
    const to = await redisStore({ ...(await redisPlace(config)), vault: vault(config.ENCRYPTION_KEYS), ...bounds });
    try {
      const work = (tasks: TaskSender | undefined) => moveAll({ from, to, tasks, config });
      return await (config.RABBITMQ_URL.length > 0 ? withBroker(config, work) : work(undefined));
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
}

/** The file may have been sealed with the key that lies beside it. */
async function sourceKeys(config: Config) {
  if (!existsSync(join(config.DATA_DIR, "encryption-key"))) return config.ENCRYPTION_KEYS;
  const beside = await loadKeys({ DATA_DIR: config.DATA_DIR, ENCRYPTION_KEYS: [], NODE_ENV: "development" });
  return [...beside, ...config.ENCRYPTION_KEYS.filter(({ id }) => !beside.some((key) => key.id === id))];
}

async function withBroker<T>(config: Config, work: (tasks: TaskSender) => Promise<T>): Promise<T> {
  const broker = rabbitQueue({ ...(await brokerPlace(config)), backoff, onFailed: () => undefined });
  try {
    await broker.ready(BROKER_MS);
    return await work(broker);
  } finally {
    await broker.close();
  }
}

function missing(path: string, message: string): Problem {
  return new Problem("config", `${path} ${message}`, { retry: "never", errors: [{ path, message }] });
}

async function main(): Promise<void> {
  try {
    const moved = await move(readConfig(process.env));
    for (const [what, count] of Object.entries(moved)) console.log(`${what}: ${count}`);
    console.log("Keep the old file as a backup, and start no node on it any more.");
  } catch (error) {
    const { message, fix } = asProblem(error);
    console.error(`Nothing more was moved: ${message}\n${fix}\nIt can be run again.`);
    process.exitCode = 1;
  }
}

if (import.meta.main) await main();
