/** The commands `backup FILE` and `restore FILE` for the store of a single node. docs/operations.md shows them. */
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

type Command = { failed: string; run: (config: Config, file: string) => Promise<string[]> };

const COMMANDS: Record<string, Command> = {
  backup: {
    failed: "There is no backup",
    async run(config, file) {
      const path = storePath(config);
      if (!existsSync(path)) throw toSettingProblem("DATA_DIR", `holds no store: there is no ${path}`);
      return [`Backup in ${file}: ${describe(backUpStore(path, file))}`, describeKeys(config)];
    },
  },
  restore: {
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

/** Runs one of the commands. The exit code is 0 when it succeeded, 1 when it failed, 2 for a wrong command line. */
async function main([name = "", file, ...rest]: string[]): Promise<void> {
  const command = COMMANDS[name];
  if (!command || file === undefined || rest.length > 0 || file.startsWith("-")) {
    console.error(
      "Usage: backup FILE (copies the store, also while the service runs), or restore FILE (puts a copy back)",
    );
    process.exitCode = 2;
    return;
  }
  try {
    for (const warning of listSettingWarnings(process.env)) console.warn(warning);
    for (const line of await command.run(readConfig(process.env), resolve(file))) console.log(line);
  } catch (error) {
    reportFailure(command.failed, error);
  }
}

if (import.meta.main) await main(process.argv.slice(2));
