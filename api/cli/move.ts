/**
 * The `move` command: copies everything that a single node has stored into the Redis (and RabbitMQ) of several nodes.
 * You can interrupt it and run it again. The SQLite file does not change.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { brokerOptions, redisOptions } from "../../shared/backends.ts";
import { type Config, readConfig } from "../../shared/config.ts";
import { listSettingWarnings } from "../../shared/setting-warnings.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import { rabbitQueue } from "../../shared/queue/rabbitmq/queue.ts";
import { redisQueue } from "../../shared/queue/redis/queue.ts";
import { redisKeys } from "../../shared/store/redis/keys.ts";
import { type RedisStore, redisStore } from "../../shared/store/redis/store.ts";
import { loadEncryptionKeys } from "../../shared/store/encryption-keys.ts";
import { sqliteStore } from "../../shared/store/sqlite/store.ts";
import { vault } from "../../shared/store/vault.ts";
import { backoff } from "../../shared/time.ts";
import { reportFailure } from "./failure.ts";
import { type MoveReport, moveStore } from "./move-store.ts";

const BROKER_TIMEOUT_MS = 30_000;
/** This process claims nothing. */
const CLAIM_MS = 30_000;

/**
 * Moves the store of DATA_DIR to REDIS_URL and RABBITMQ_URL and returns what was moved. Throws `store` while a node
 * runs on that file, and `config` naming a missing setting.
 */
export async function move(config: Config): Promise<MoveReport> {
  const path = join(config.DATA_DIR, "email-listener.db");
  if (!config.REDIS_URL) throw missingSetting("REDIS_URL", "must name the Redis to move to");
  if (!existsSync(path)) throw missingSetting("DATA_DIR", `holds no embedded store: there is no ${path}`);
  const bounds = { windowDays: config.WINDOW_DAYS, spoolBytes: config.SPOOL_BYTES };
  const from = await sqliteStore({ path, vault: vault(await sourceKeys(config)), ...bounds });
  try {
    const to = await redisStore({ ...(await redisOptions(config)), vault: vault(config.ENCRYPTION_KEYS), ...bounds });
    try {
      const work = (tasks: TaskSender) => moveStore({ from, to, tasks, config });
      if (config.RABBITMQ_URL.length > 0) return await withBroker(config, work);
      return await work(await tasksInRedis(config, to));
    } finally {
      await to.close();
    }
  } finally {
    await from.close();
  }
}

/** The key beside the file may have encrypted it. */
async function sourceKeys(config: Config) {
  if (!existsSync(join(config.DATA_DIR, "encryption-key"))) return config.ENCRYPTION_KEYS;
  const localKeys = await loadEncryptionKeys({
    DATA_DIR: config.DATA_DIR,
    ENCRYPTION_KEYS: [],
    NODE_ENV: "development",
  });
  return [...localKeys, ...config.ENCRYPTION_KEYS.filter(({ id }) => !localKeys.some((key) => key.id === id))];
}

function tasksInRedis({ REDIS_PREFIX }: Config, { redis }: RedisStore): Promise<TaskSender> {
  const keys = redisKeys(REDIS_PREFIX);
  return redisQueue({ redis, keys, claimMs: CLAIM_MS, backoff, onFailed: ignore, onTrouble: ignore });
}

/** This process performs no tasks, so there is nothing to report. */
function ignore(): void {}

async function withBroker<T>(config: Config, work: (tasks: TaskSender) => Promise<T>): Promise<T> {
  const broker = rabbitQueue({ ...(await brokerOptions(config)), backoff, onFailed: ignore });
  try {
    await broker.ready(BROKER_TIMEOUT_MS);
    return await work(broker);
  } finally {
    await broker.close();
  }
}

function missingSetting(path: string, message: string): Problem {
  return new Problem("config", `${path} ${message}`, { retry: "never", errors: [{ path, message }] });
}

async function main(): Promise<void> {
  try {
    for (const warning of listSettingWarnings(process.env)) console.warn(warning);
    const moved = await move(readConfig(process.env));
    for (const [what, count] of Object.entries(moved)) console.log(`${what}: ${count}`);
    console.log("Keep the old file as a backup, and do not start a node on it again.");
  } catch (error) {
    reportFailure("Nothing more was moved, and you can run it again", error);
  }
}

if (import.meta.main) await main();
