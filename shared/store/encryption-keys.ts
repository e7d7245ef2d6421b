/** Where the encryption keys come from: the settings, or (not in production) a key file next to the database. */
import { randomBytes } from "node:crypto";
import { mkdir, open, readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../config.ts";
import { Problem } from "../contract/problem.ts";
import { Secret } from "../contract/secret.ts";
import type { VaultKey } from "./vault.ts";

const FILE = "encryption-key";
const LINE = /^([A-Za-z0-9_-]{1,32}):([A-Za-z0-9+/]{43}=)\n?$/;

/**
 * The keys of ENCRYPTION_KEYS; without them the one in DATA_DIR's key file, which is made (mode 0600) when there is none.
 * With DATA_DIR `:memory:` a key that lives as long as the process. In production it throws `config` instead.
 */
export async function loadKeys(
  config: Pick<Config, "ENCRYPTION_KEYS" | "DATA_DIR" | "NODE_ENV">,
): Promise<readonly VaultKey[]> {
  if (config.ENCRYPTION_KEYS.length > 0) return config.ENCRYPTION_KEYS;
  if (config.NODE_ENV === "production") {
    throw new Problem("config", "ENCRYPTION_KEYS must be set when NODE_ENV=production", { retry: "never" });
  }
  if (config.DATA_DIR === ":memory:") return [{ id: "memory", key: newKey() }];
  await mkdir(config.DATA_DIR, { recursive: true, mode: 0o700 });
  const path = join(config.DATA_DIR, FILE);
  await makeKeyFile(path);
  const [, id, key] = LINE.exec(await readFile(path, "utf8")) ?? [];
  if (id === undefined || key === undefined) {
    const advice = "restore it from a backup, or delete it if no mailbox was registered yet";
    throw new Problem("config", `The key file ${path} is damaged: ${advice}`, { retry: "never" });
  }
  return [{ id, key: new Secret(key) }];
}

/** 32 random bytes in base64, the form ENCRYPTION_KEYS wants. */
export function newKey(): Secret {
  return new Secret(randomBytes(32).toString("base64"));
}

/** Created exclusively, so that of two processes starting at once both use the same key; synced, so that no registration outlives it. */
async function makeKeyFile(path: string): Promise<void> {
  const file = await open(path, "wx", 0o600).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return undefined;
    throw new Problem("config", `The key file ${path} cannot be made`, { retry: "never", cause: error });
  });
  if (file === undefined) return;
  try {
    await file.writeFile(`local:${newKey().reveal()}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}
