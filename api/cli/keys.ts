/** The `keys` command: prints a new key for ENCRYPTION_KEYS. Put it in front of the old ones; the first one seals, all open. */
import process from "node:process";
import { newKey } from "../../shared/store/encryption-keys.ts";

if (import.meta.main) {
  const id = `k${new Date().toISOString().slice(0, 10).replaceAll("-", "")}`;
  process.stdout.write(`${id}:${newKey().reveal()}\n`);
}
