/** Where the encryption keys come from: the settings, or (not in production) a key file beside the database. */
import { randomBytes } from "node:crypto";
import { mkdir, open } from "node:fs/promises";
import { join } from "node:path";
import type { Config } from "../config.ts";
import { Problem } from "../contract/problem.ts";
import { Secret } from "../contract/secret.ts";
import { readSecretFile } from "../private-files.ts";
import type { VaultKey } from "./vault.ts";

/** The name of the key file beside the database. */
export const KEY_FILE = "encryption-key";
const KEY_LINE = /^([A-Za-z0-9_-]{1,32}):([A-Za-z0-9+/]{43}=)$/;

/**
 * Returns the keys of ENCRYPTION_KEYS. Without that setting it returns the key of the key file in DATA_DIR, and creates
 * the file (mode 0600) if there is none. With DATA_DIR `:memory:` it returns a key that lives as long as the process.
 * In production it throws `config` instead.
 */
export async function loadEncryptionKeys(
  config: Pick<Config, "ENCRYPTION_KEYS" | "DATA_DIR" | "NODE_ENV">,
): Promise<readonly VaultKey[]> {
  if (config.ENCRYPTION_KEYS.length > 0) return config.ENCRYPTION_KEYS;
  if (config.NODE_ENV === "production") {
    throw new Problem("config", "ENCRYPTION_KEYS must be set when NODE_ENV=production", { retry: "never" });
  }
  if (config.DATA_DIR === ":memory:") return [{ id: "memory", key: generateEncryptionKey() }];
  await mkdir(config.DATA_DIR, { recursive: true, mode: 0o700 });
  const path = join(config.DATA_DIR, KEY_FILE);
  await createKeyFile(path);
  const [, id, key] = KEY_LINE.exec(readKeyFile(path)) ?? [];
  if (id === undefined || key === undefined) {
    const advice = "restore it from a backup, or delete it if no mailbox was registered yet";
    throw new Problem("config", `The key file ${path} is damaged: ${advice}`, { retry: "never" });
  }
  return [{ id, key: new Secret(key) }];
}

function readKeyFile(path: string): string {
  try {
    return readSecretFile(path);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new Problem("config", `The encryption key cannot be used: ${why}`, { retry: "never", cause });
  }
}

/** Returns 32 random bytes in base64, the form of a key in ENCRYPTION_KEYS. */
export function generateEncryptionKey(): Secret {
  return new Secret(randomBytes(32).toString("base64"));
}

/**
 * Creates the file exclusively, so two processes that start at once use the same key. It syncs the file, so no stored
 * mailbox outlives its key.
 */
async function createKeyFile(path: string): Promise<void> {
  const file = await open(path, "wx", 0o600).catch((error: unknown) => {
    if (error instanceof Error && "code" in error && error.code === "EEXIST") return undefined;
    throw new Problem("config", `The key file ${path} cannot be made`, { retry: "never", cause: error });
  });
  if (file === undefined) return;
  try {
    await file.writeFile(`local:${generateEncryptionKey().reveal()}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
}
