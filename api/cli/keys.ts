#!/usr/local/bin/runtime
/**
 * The `keys` command. Alone it prints a new key for ENCRYPTION_KEYS. `keys rotate` encrypts everything that is stored with
 * the first key of that setting, see docs/keys.md.
 */
import { randomBytes } from "node:crypto";
import process from "node:process";
import { readConfig } from "../../shared/config.ts";
import { listSettingWarnings } from "../../shared/setting-warnings.ts";
import { generateEncryptionKey } from "../../shared/store/encryption-keys.ts";
import type { Rotation } from "../../shared/store/rotation.ts";
import { reportFailure } from "./failure.ts";
import { rotateStoredKeys } from "./rotate-keys.ts";

const PROGRESS_INTERVAL_MS = 1_000;

function printNewKey(): void {
  // The day helps people, the random part tells keys of one day apart.
  const id = `k${new Date().toISOString().slice(0, 10).replaceAll("-", "")}-${randomBytes(5).toString("hex")}`;
  process.stdout.write(`${id}:${generateEncryptionKey().reveal()}\n`);
}

/** Returns whether everything is encrypted with the first key. */
async function rotate(): Promise<boolean> {
  try {
    for (const warning of listSettingWarnings(process.env)) console.warn(warning);
    const { key, rotation, slowNodes } = await rotateStoredKeys(readConfig(process.env), progressPrinter());
    console.log(`${describe(rotation)} were encrypted again with the key ${key}.`);
    if (rotation.unreadable > 0)
      console.log(
        `${rotation.unreadable} messages, tokens and applications stay as they are: none of these keys decrypts them.`,
      );
    const others = rotation.otherKeys.join(", ");
    if (others === "") {
      console.log("Nothing needs another key: remove all others from ENCRYPTION_KEYS.");
      return true;
    }
    const who =
      slowNodes.length > 0 ? `These nodes encrypt with them: ${slowNodes.join(", ")}` : "A node wrote meanwhile";
    console.error(`Still in use: ${others}. ${who}. Put ${key} first on every node, restart them, and run this again.`);
  } catch (error) {
    reportFailure("The change of keys is not complete, and you can run it again", error);
  }
  return false;
}

function progressPrinter(): (sofar: Rotation) => void {
  let printedAt = performance.now();
  return (sofar) => {
    if (performance.now() - printedAt < PROGRESS_INTERVAL_MS) return;
    printedAt = performance.now();
    console.log(`${describe(sofar)} so far`);
  };
}

function describe({ mailboxes, messages, tokens, applications }: Rotation): string {
  return `${mailboxes} mailboxes, ${messages} messages, ${tokens} tokens and ${applications} applications`;
}

if (import.meta.main) {
  const [command, ...rest] = process.argv.slice(2);
  if (command === undefined) printNewKey();
  else if (command === "rotate" && rest.length === 0) process.exitCode = (await rotate()) ? 0 : 1;
  else {
    console.error(
      "Usage: keys (prints a new key), or keys rotate (encrypts everything with the first of ENCRYPTION_KEYS)",
    );
    process.exitCode = 2;
  }
}
