/**
 * Encrypts everything that is stored with the first key of ENCRYPTION_KEYS, while nodes run. It can be interrupted at any
 * time and run again. It changes nothing while a running node lacks that key.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { redisOptions } from "../../shared/backends.ts";
import type { Config } from "../../shared/config.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { fetchLiveNodes } from "../../shared/nodes/heartbeats.ts";
import { loadEncryptionKeys } from "../../shared/store/encryption-keys.ts";
import { redisConnection } from "../../shared/store/redis/connection/client.ts";
import { redisKeys } from "../../shared/store/redis/keys.ts";
import { redisRegistry } from "../../shared/store/redis/registry.ts";
import { redisCanaries } from "../../shared/store/redis/sealing/canaries.ts";
import { rotateKeys as rotateInRedis } from "../../shared/store/redis/sealing/rotation.ts";
import { mailboxSealing } from "../../shared/store/mailbox-sealing.ts";
import type { Rotation } from "../../shared/store/rotation.ts";
import { openDatabase, openDatabaseBeside } from "../../shared/store/sqlite/database.ts";
import { isLocked } from "../../shared/store/sqlite/lock.ts";
import { checkKeys, readKeyring, rotateKeys as rotateInFile } from "../../shared/store/sqlite/rotation.ts";
import { type KeyName, type Vault, vault } from "../../shared/store/vault.ts";

/** `slowNodes` are running nodes whose first key is another one. */
export type StoredKeysRotation = { key: string; rotation: Rotation; slowNodes: string[] };

type RunningNode = { name: string; keyring?: readonly KeyName[] };
type OnProgress = (sofar: Rotation) => void;

/**
 * Rotates the keys of REDIS_URL, or of the file in DATA_DIR. Throws `config` when a running node lacks the first key, and
 * when a key is missing here.
 */
export async function rotateStoredKeys(config: Config, onProgress: OnProgress): Promise<StoredKeysRotation> {
  const box = vault(await loadEncryptionKeys(config));
  return config.REDIS_URL ? rotateRedis(config, box, onProgress) : rotateFile(config, box, onProgress);
}

async function rotateRedis(config: Config, box: Vault, onProgress: OnProgress): Promise<StoredKeysRotation> {
  const { url, ca, prefix } = await redisOptions(config);
  const keys = redisKeys(prefix);
  const redis = await redisConnection(url, ca);
  try {
    const others = compareKeys(await fetchLiveNodes(redis, keys), box);
    const sealing = mailboxSealing(box);
    const canaries = redisCanaries(redis, keys, sealing);
    const registry = redisRegistry(redis, keys);
    const options = { everything: true, usedByOthers: others.keys, onProgress };
    const rotation = await rotateInRedis({ redis, keys, registry, vault: box, sealing, canaries }, options);
    return { key: box.sealingKeyId, rotation, slowNodes: others.nodes };
  } finally {
    await redis.close();
  }
}

async function rotateFile(config: Config, box: Vault, onProgress: OnProgress): Promise<StoredKeysRotation> {
  const path = join(config.DATA_DIR, "email-listener.db");
  if (!existsSync(path)) throw toKeyProblem("DATA_DIR", `holds no store: there is no ${path}`);
  const isRunning = isLocked(path);
  const db = isRunning ? openDatabaseBeside(path) : openDatabase(path);
  try {
    const running = isRunning ? [{ name: "the running service", keyring: readKeyring(db) }] : [];
    const others = compareKeys(running, box);
    const sealing = mailboxSealing(box);
    checkKeys(db, sealing);
    const rotation = await rotateInFile(
      { db, vault: box, sealing },
      { everything: true, usedByOthers: others.keys, onProgress },
    );
    return { key: box.sealingKeyId, rotation, slowNodes: others.nodes };
  } finally {
    db.close();
  }
}

/**
 * Throws `config` when a node lacks the key that will encrypt everything. Returns the nodes that encrypt with another key,
 * and these keys.
 */
function compareKeys(nodes: readonly RunningNode[], box: Vault): { nodes: string[]; keys: string[] } {
  const [target] = box.keyring;
  const lacking = nodes.filter(({ keyring = [] }) => !keyring.some((key) => isSameKey(key, target)));
  if (lacking.length > 0) {
    const who = lacking.map(({ name }) => name).join(", ");
    const how = "put it after the first key of every node, restart the nodes one by one, and run this again";
    throw toKeyProblem("ENCRYPTION_KEYS", `begins with the key "${target?.id}", which is missing on ${who}: ${how}`);
  }
  const slow = nodes.filter(({ keyring = [] }) => !isSameKey(keyring[0], target));
  const keys = slow.flatMap(({ keyring = [] }) => keyring.slice(0, 1)).map(({ id }) => id);
  return { nodes: slow.map(({ name }) => name), keys: [...new Set(keys)] };
}

function isSameKey(one: KeyName | undefined, other: KeyName | undefined): boolean {
  return one !== undefined && one.id === other?.id && one.mark === other.mark;
}

function toKeyProblem(path: string, message: string): Problem {
  return new Problem("config", `${path} ${message}`, { retry: "never", errors: [{ path, message }] });
}
