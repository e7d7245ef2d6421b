/**
 * Encrypts what is stored with AES-256-GCM. Each record has a data key of its own, and the data key is encrypted by a
 * key of ENCRYPTION_KEYS. A value can be decrypted only with that key and only for the same mailbox and field.
 */
import { type CipherKey, createHmac, createSecretKey, type KeyObject, randomBytes } from "node:crypto";
import { Problem } from "../contract/problem.ts";
import type { Secret } from "../contract/secret.ts";
import { decrypt, encrypt, IV_BYTES } from "./cipher.ts";

/** `key` is 32 bytes in base64. `id` is written into everything that the key encrypts. */
export type VaultKey = { id: string; key: Secret };

/** Tells two keys apart, also two of one id, and gives nothing of them away. */
export type KeyName = { id: string; mark: string };

export type Vault = {
  /** The names of all keys, that of the encrypting key first. */
  readonly keyring: readonly KeyName[];
  /** The id of the key that encrypts: the first one. */
  readonly sealingKeyId: string;
  /** Encrypts `text`. It can be decrypted only with the same `aad`. */
  seal(text: string, aad: string): string;
  /** As `seal`, without a data key, so that nodes of 0.1 can decrypt it. */
  sealForOldNodes(text: string, aad: string): string;
  /**
   * Decrypts. Throws `config` naming the key id when the key is missing or is not the one that encrypted, and when the
   * value was changed or belongs to another `aad`.
   */
  open(sealed: string, aad: string): string;
  /** Whether the first key encrypted what `seal` returned. */
  isSealedByFirst(sealed: string): boolean;
  /** Makes a data key for one record. `sealed` is its encrypted form, `<key id>:<base64url>`. */
  createDataKey(): { key: Buffer; sealed: string };
  /** Decrypts a data key. Throws `config` naming the key id when the key is missing or is not the one that encrypted. */
  openDataKey(sealed: string): Buffer;
  /** The same data key, encrypted by the first key. Throws as `openDataKey`. */
  resealDataKey(sealed: string): string;
  /**
   * Names for a text that only holders of ENCRYPTION_KEYS can compute: one by each key, that of the encrypting key first.
   */
  marks(text: string): string[];
};

/** The form of 0.1, without a data key: `enc:1:<key id>:<iv>:<ciphertext and tag>`. */
const FORMAT_1 = /^enc:1:([A-Za-z0-9_-]{1,32}):([A-Za-z0-9_-]+):([A-Za-z0-9_-]+)$/;
/** `enc:2:<key id>:<encrypted data key>:<iv, ciphertext and tag>`. */
const FORMAT_2 = /^enc:2:([A-Za-z0-9_-]{1,32}:[A-Za-z0-9_-]+):([A-Za-z0-9_-]+)$/;
const KEY_BYTES = 32;

/**
 * Encrypts with the first key and decrypts with all keys. All binary parts are base64url. Throws `config` without keys,
 * and for a key that is not 32 bytes.
 */
export function vault(keys: readonly VaultKey[]): Vault {
  const keysById = new Map(keys.map(({ id, key }) => [id, decodeKey(id, key)]));
  const [first] = keys;
  if (first === undefined) throw toKeyProblem("There is no encryption key");
  const sealingKey = decodeKey(first.id, first.key);
  const findKey = (id: string): KeyObject => {
    const key = keysById.get(id);
    if (key === undefined) throw toKeyProblem(`The encryption key "${id}" is missing`);
    return key;
  };
  const sealDataKey = (key: Buffer) =>
    `${first.id}:${encrypt(sealingKey, key, dataKeyAad(first.id)).toString("base64url")}`;
  const createDataKey = () => {
    const key = randomBytes(KEY_BYTES);
    return { key, sealed: sealDataKey(key) };
  };
  const openDataKey = (sealed: string): Buffer => {
    const [id = "", body = ""] = sealed.split(":");
    const key = findKey(id);
    return openWith(key, Buffer.from(body, "base64url"), { aad: dataKeyAad(id), failure: describeWrongKey(id) });
  };
  const marks = (text: string) =>
    [...keysById.values()].map((key) => createHmac("sha256", key).update(`mark|${text}`).digest("base64url"));
  const names = marks("name");
  return {
    keyring: keys.map(({ id }, n) => ({ id, mark: names[n] ?? "" })),
    sealingKeyId: first.id,
    seal(text, aad) {
      const { key, sealed } = createDataKey();
      return `enc:2:${sealed}:${encrypt(key, Buffer.from(text), aad).toString("base64url")}`;
    },
    sealForOldNodes(text, aad) {
      const sealed = encrypt(sealingKey, Buffer.from(text), aad);
      const [iv, body] = [sealed.subarray(0, IV_BYTES), sealed.subarray(IV_BYTES)];
      return `enc:1:${first.id}:${iv.toString("base64url")}:${body.toString("base64url")}`;
    },
    open(sealed, aad) {
      const [, dataKey, body] = FORMAT_2.exec(sealed) ?? [];
      if (dataKey !== undefined && body !== undefined) {
        const failure = "A stored credential was changed, or it was moved from another mailbox or field";
        return openWith(openDataKey(dataKey), Buffer.from(body, "base64url"), { aad, failure }).toString("utf8");
      }
      const [, id = "", ...parts] = FORMAT_1.exec(sealed) ?? [];
      if (id === "") throw toKeyProblem("A stored credential is in no form that this version can read");
      const bytes = Buffer.concat(parts.map((part) => Buffer.from(part, "base64url")));
      return openWith(findKey(id), bytes, {
        aad,
        failure: `${describeWrongKey(id)}, or somebody changed the stored record`,
      }).toString("utf8");
    },
    isSealedByFirst: (sealed) => sealed.startsWith(`enc:2:${first.id}:`),
    createDataKey,
    openDataKey,
    resealDataKey: (sealed) => sealDataKey(openDataKey(sealed)),
    marks,
  };
}

function dataKeyAad(keyId: string): string {
  return `data key|${keyId}`;
}

function describeWrongKey(id: string): string {
  return `The encryption key "${id}" is not the one that encrypted the stored credentials`;
}

function openWith(key: CipherKey, sealed: Buffer, { aad, failure }: { aad: string; failure: string }): Buffer {
  try {
    return decrypt(key, sealed, aad);
  } catch (cause) {
    throw toKeyProblem(failure, cause);
  }
}

/** On Node a cipher with the bytes of a key takes three times as long as one with a key object. */
function decodeKey(id: string, key: Secret): KeyObject {
  const bytes = Buffer.from(key.reveal(), "base64");
  if (bytes.length !== KEY_BYTES) throw toKeyProblem(`The encryption key "${id}" must be 32 bytes in base64`);
  return createSecretKey(bytes);
}

function toKeyProblem(message: string, cause?: unknown): Problem {
  return new Problem("config", `${message}; see ENCRYPTION_KEYS`, { retry: "never", cause });
}
