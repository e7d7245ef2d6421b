/** Which keys encrypted something in a SQLite store, and how everything comes under the first key. */
import { setImmediate } from "node:timers/promises";
import { createRotation, type Rotation, type RotationOptions } from "../rotation.ts";
import * as v from "valibot";
import { keyIdOf, type MailboxSealing } from "../mailbox-sealing.ts";
import type { KeyName, Vault } from "../vault.ts";
import { resealStoredTokens } from "./access.ts";
import { resealStoredApplications } from "./applications.ts";
import type { Database } from "./database.ts";
import { json, text } from "./row.ts";
import { type MessageTable, resealDataKeys, sealOldMessage } from "./sealed-messages.ts";

/** Learns the forms and keys in use. Throws `config`, naming the key, when a key is missing or wrong. */
export function checkKeys(db: Database, sealing: MailboxSealing): void {
  const rows = db.all("select key_id, sealed from canaries");
  sealing.learn(rows.map((row) => ({ tag: text(row, "key_id"), sealed: text(row, "sealed") })));
  // Only nodes of this version use the file, so none of 0.1 does.
  sealing.leaveOldForm();
}

/** Leaves word which keys this process has, for a change of keys beside it. */
export function announceKeyring(db: Database, { keyring }: Vault): void {
  db.transact(() => db.run("insert or replace into meta values ('keyring', ?)", JSON.stringify(keyring)));
}

/** The keys of the process that opened the database last. */
export function readKeyring(db: Database): readonly KeyName[] {
  const row = db.get("select value from meta where name = 'keyring'");
  return row === undefined ? [] : v.parse(Keyring, json(row, "value"));
}

const Keyring = v.array(v.object({ id: v.string(), mark: v.string() }));

type RotateDeps = { db: Database; vault: Vault; sealing: MailboxSealing };

/**
 * Encrypts everything with the first key that another key encrypted, or that is in an old form. It may be interrupted at
 * any time and run again. It writes in small transactions, so that a running node gets its turn between two of them.
 */
export async function rotateKeys(deps: RotateDeps, options: RotationOptions = {}): Promise<Rotation> {
  const { everything = false, usedByOthers = [], onProgress } = options;
  const { db, sealing } = deps;
  const { tag, sealed } = sealing.makeCanary();
  // The key is announced first, so that the next start without it fails.
  db.transactDurably(() => db.run("insert or ignore into canaries values (?, ?)", tag, sealed));
  const rotation = createRotation();
  if (!everything && listOtherTags(db, tag).length === 0) return rotation;
  // Deleted and replaced data keys must not stay readable in the file.
  db.all("pragma secure_delete = on");
  for (const step of listSteps(deps, rotation, everything)) {
    for (let after: string | undefined = ""; after !== undefined;) {
      after = await step(after);
      onProgress?.(rotation);
      await setImmediate();
    }
  }
  db.transactDurably(() => {
    for (const other of listOtherTags(db, tag)) {
      if (!usedByOthers.includes(keyIdOf(other))) db.run("delete from canaries where key_id = ?", other);
    }
  });
  db.all("pragma secure_delete = off");
  db.all("pragma wal_checkpoint(truncate)");
  checkKeys(db, sealing);
  return { ...rotation, otherKeys: toKeyIds(listOtherTags(db, tag), deps.vault) };
}

/** Does the next part of a step after an id. Returns the last id of the part, or undefined at the end. */
type Step = (after: string) => Promise<string | undefined> | string | undefined;

function listSteps({ db, vault, sealing }: RotateDeps, rotation: Rotation, everything: boolean): Step[] {
  const messageSteps = MESSAGE_TABLES.flatMap((table): Step[] => {
    const resealKeys: Step = (after) => {
      const { resealed, unreadable, last } = resealDataKeys(db, { table, by: vault, after, limit: PAGE_SIZE });
      rotation.messages += resealed;
      rotation.unreadable += unreadable;
      return last;
    };
    const sealOld: Step = async (after) => {
      const id = await sealOldMessage(db, { table, by: vault, after });
      if (id !== undefined) rotation.messages += 1;
      return id;
    };
    return everything ? [resealKeys, sealOld] : [resealKeys];
  });
  const resealTokens: Step = async () => {
    const { resealed, unreadable } = await resealStoredTokens(db, vault);
    rotation.tokens += resealed;
    rotation.unreadable += unreadable;
    return undefined;
  };
  const resealApplications: Step = async () => {
    const { resealed, unreadable } = await resealStoredApplications(db, vault);
    rotation.applications += resealed;
    rotation.unreadable += unreadable;
    return undefined;
  };
  return [
    resealTokens,
    resealApplications,
    (after) => resealMailboxes(db, sealing, { everything, after, rotation }),
    ...messageSteps,
  ];
}

const MESSAGE_TABLES: readonly MessageTable[] = ["spool", "outbox_spool"];
/** Encrypting the data keys of this many messages again takes a few milliseconds. */
const PAGE_SIZE = 200;
/** Decrypting and encrypting this many mailboxes takes about ten milliseconds. */
const MAILBOX_PAGE_SIZE = 20;

/** Encrypts up to a page of mailboxes again, those after the id `after`. Returns the last id, or undefined at the end. */
function resealMailboxes(
  db: Database,
  sealing: MailboxSealing,
  { everything, after, rotation }: { everything: boolean; after: string; rotation: Rotation },
): string | undefined {
  return db.transact(() => {
    const isOld = everything ? `(key_id <> ? or instr(doc, '"enc:1:') > 0)` : "key_id <> ?";
    const sql = `select id, doc from mailboxes where ${isOld} and id > ? order by id limit ?`;
    const rows = db.all(sql, sealing.tag, after, MAILBOX_PAGE_SIZE);
    for (const row of rows) {
      const { doc, canary } = sealing.seal(sealing.open(text(row, "doc")));
      db.run("update mailboxes set key_id = ?, doc = ? where id = ?", canary.tag, doc, text(row, "id"));
    }
    rotation.mailboxes += rows.length;
    return rows.length < MAILBOX_PAGE_SIZE ? undefined : text(rows.at(-1), "id");
  });
}

function listOtherTags(db: Database, tag: string): string[] {
  return db.all("select key_id from canaries where key_id <> ?", tag).map((row) => text(row, "key_id"));
}

function toKeyIds(tags: readonly string[], { sealingKeyId }: Vault): string[] {
  return [...new Set(tags.map(keyIdOf))].filter((id) => id !== sealingKeyId);
}
