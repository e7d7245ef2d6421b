/** What the commands `backup FILE` and `restore FILE` do with the store of a single node. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { type Config, readConfig } from "../../shared/config.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { listSettingWarnings } from "../../shared/setting-warnings.ts";
import { KEY_FILE, loadEncryptionKeys } from "../../shared/store/encryption-keys.ts";
import { backUpStore, restoreStore } from "../../shared/store/sqlite/backup/backup.ts";
import type { StoreSummary } from "../../shared/store/sqlite/backup/summary.ts";
import { vault } from "../../shared/store/vault.ts";
import { reportFailure } from "./failure.ts";

type Command = { usage: string; failed: string; run: (config: Config, file: string) => Promise<string[]> };

const COMMANDS: Record<"backup" | "restore", Command> = {
  backup: {
    usage: "backup FILE (copies the store into a new file, also while the service runs)",
    failed: "There is no backup",
    async run(config, file) {
      const path = storePath(config);
      if (!existsSync(path)) throw toSettingProblem("DATA_DIR", `holds no store: there is no ${path}`);
      return [`Backup in ${file}: ${describe(backUpStore(path, file))}`, describeKeys(config)];
    },
  },
  restore: {
    usage: "restore FILE (puts a backup in the place of the store)",
    failed: "Nothing was restored",
    async run(config, file) {
      const { summary, replaced } = restoreStore(file, storePath(config), vault(await loadEncryptionKeys(config)));
      const old = replaced === null ? [] : [`The store that was there is now ${replaced}.`];
      return [`Restored ${file}: ${describe(summary)}`, ...old];
    },
  },
};

function storePath({ REDIS_URL, DATA_DIR }: Config): string {
  if (REDIS_URL)
    throw toSettingProblem("REDIS_URL", "is set, so the store is in Redis: back up Redis, as docs/operations.md says");
  if (DATA_DIR === ":memory:") throw toSettingProblem("DATA_DIR", "is :memory:, so nothing is on disk");
  return join(DATA_DIR, "email-listener.db");
}

function describe({ mailboxes, deliveries, newest, keys }: StoreSummary): string {
  const age = newest === null ? "nothing yet" : `up to ${newest}`;
  return `${mailboxes} mailboxes, ${deliveries} deliveries, ${age}. It needs the encryption keys ${keys.join(", ") || "of its node"}.`;
}

function describeKeys({ DATA_DIR, ENCRYPTION_KEYS }: Config): string {
  const where = ENCRYPTION_KEYS.length > 0 ? "ENCRYPTION_KEYS" : `the file ${join(DATA_DIR, KEY_FILE)}`;
  return `The keys are not in it. Keep a copy of ${where} in another place.`;
}

function toSettingProblem(path: string, message: string): Problem {
  return new Problem("config", `${path} ${message}`, { retry: "never", errors: [{ path, message }] });
}

/** Runs a command. The exit code is 0 when it succeeded, 1 when it failed, 2 for a wrong command line. */
export async function runStoreCommand(name: keyof typeof COMMANDS, [file, ...rest]: string[]): Promise<void> {
  const { failed, usage, run } = COMMANDS[name];
  if (file === undefined || rest.length > 0 || file.startsWith("-")) {
    console.error(`Usage: ${usage}`);
    process.exitCode = 2;
    return;
  }
  try {
    for (const warning of listSettingWarnings(process.env)) console.warn(warning);
    for (const line of await run(readConfig(process.env), resolve(file))) console.log(line);
  } catch (error) {
    reportFailure(failed, error);
  }
}
