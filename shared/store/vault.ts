/** Sealing of stored credentials with AES-256-GCM: what is written to disk can be read with the keys only, and only in its own place. */
import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import * as v from "valibot";
import { Mailbox, SECRET_PATHS } from "../contract/mailbox.ts";
import { Problem } from "../contract/problem.ts";
import { Secret } from "../contract/secret.ts";

/** `key` is 32 bytes in base64; `id` names it in everything it seals. */
export type VaultKey = { id: string; key: Secret };

export type Vault = {
  /** The id of the key that seals: the first one. */
  readonly sealsWith: string;
  /** Seals `text` so that it opens only together with the same `aad`. */
  seal(text: string, aad: string): string;
  /** Throws `config` naming the key id when the key is missing or is not the one that sealed. */
  open(sealed: string, aad: string): string;
};

const FORMAT = /^enc:1:([A-Za-z0-9_-]{1,32}):([A-Za-z0-9_-]+):([A-Za-z0-9_-]+)$/;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/**
 * Seals with the first key and opens with all, as `enc:1:<key id>:<iv>:<ciphertext and tag>` (base64url, a new random iv
 * each time, NIST SP 800-38D). Throws `config` without keys or for a key that is not 32 bytes.
 */
export function vault(keys: readonly VaultKey[]): Vault {
  const known = new Map(keys.map(({ id, key }) => [id, bytesOf(id, key)]));
  const [first] = keys;
  if (first === undefined) throw unusable("There is no encryption key");
  const sealing = bytesOf(first.id, first.key);
  return {
    sealsWith: first.id,
    seal(text, aad) {
      const iv = randomBytes(IV_BYTES);
      const cipher = createCipheriv("aes-256-gcm", sealing, iv).setAAD(Buffer.from(aad));
      const sealed = Buffer.concat([cipher.update(text, "utf8"), cipher.final(), cipher.getAuthTag()]);
      return `enc:1:${first.id}:${iv.toString("base64url")}:${sealed.toString("base64url")}`;
    },
    open(sealed, aad) {
      const [, id = "", iv = "", body = ""] = FORMAT.exec(sealed) ?? [];
      if (id === "") throw unusable("A stored credential is not in the sealed format enc:1");
      const key = known.get(id);
      if (key === undefined) throw unusable(`The encryption key "${id}" is missing`);
      return opened(key, { id, iv, body, aad });
    },
  };
}

function opened(key: Buffer, sealed: { id: string; iv: string; body: string; aad: string }): string {
  const body = Buffer.from(sealed.body, "base64url");
  try {
    const decipher = createDecipheriv("aes-256-gcm", key, Buffer.from(sealed.iv, "base64url"), {
      authTagLength: TAG_BYTES,
    });
    decipher.setAAD(Buffer.from(sealed.aad)).setAuthTag(body.subarray(-TAG_BYTES));
    return Buffer.concat([decipher.update(body.subarray(0, -TAG_BYTES)), decipher.final()]).toString("utf8");
  } catch (cause) {
    throw unusable(`The encryption key "${sealed.id}" is not the one that sealed the stored credentials`, cause);
  }
}

function bytesOf(id: string, key: Secret): Buffer {
  const bytes = Buffer.from(key.reveal(), "base64");
  if (bytes.length !== 32) throw unusable(`The encryption key "${id}" must be 32 bytes in base64`);
  return bytes;
}

function unusable(message: string, cause?: unknown): Problem {
  return new Problem("config", `${message}; see ENCRYPTION_KEYS`, { retry: "never", cause });
}

/** A mailbox as it may be written: plain JSON values, every secret sealed for this mailbox and this field. */
export function sealMailbox(mailbox: Mailbox, by: Vault): unknown {
  return JSON.parse(
    JSON.stringify(
      replaceSecrets(mailbox, (value, path) => {
        if (!(value instanceof Secret)) throw new TypeError(`${path} of a mailbox is not a Secret`);
        return by.seal(value.reveal(), `${mailbox.id}|${path}`);
      }),
      refuseSecret,
    ),
  );
}

/** The reverse of `sealMailbox`, checked by the contract's schema. Throws `config` when a key is missing or wrong. */
export function openMailbox(doc: unknown, by: Vault): Mailbox {
  const id = isRecord(doc) ? String(doc["id"]) : "";
  const open = (value: unknown, path: string) => new Secret(by.open(String(value), `${id}|${path}`));
  return v.parse(Mailbox, replaceSecrets(doc, open));
}

/** Opened mailboxes kept at hand: opening one costs a third of a millisecond, and a busy one is opened for every task. */
const KEPT = 1_000;

/**
 * Opens stored mailboxes and keeps those used last, each by its whole text: what was written anew is opened anew. The mailboxes are
 * shared and must not be changed. Throws as `openMailbox`.
 */
export function mailboxReader(by: Vault): (doc: string) => Mailbox {
  const kept = new Map<string, Mailbox>();
  return (doc) => {
    const mailbox = kept.get(doc) ?? openMailbox(JSON.parse(doc), by);
    kept.delete(doc);
    kept.set(doc, mailbox);
    const [oldest] = kept.keys();
    if (kept.size > KEPT && oldest !== undefined) kept.delete(oldest);
    return mailbox;
  };
}

type Change = (value: unknown, path: string) => unknown;

function replaceSecrets(doc: unknown, change: Change): unknown {
  return SECRET_PATHS.reduce<unknown>((sofar, path) => replaceAt(sofar, path, change), doc);
}

function replaceAt(node: unknown, path: readonly string[], change: Change, walked: readonly string[] = []): unknown {
  const [head, ...rest] = path;
  if (head === undefined) return change(node, walked.join("."));
  if (!isRecord(node) || node[head] === undefined) return node;
  return { ...node, [head]: replaceAt(node[head], rest, change, [...walked, head]) };
}

/** A secret that SECRET_PATHS forgot would be written as its placeholder, and be lost: better to fail at once. */
function refuseSecret(this: unknown, key: string, value: unknown): unknown {
  if (isRecord(this) && this[key] instanceof Secret) throw new TypeError(`SECRET_PATHS does not name ${key}`);
  return value;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null;
}
