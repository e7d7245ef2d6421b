/**
 * The ledger in SQLite. A done message at or below its folder's cursor needs no row. Rows exist for what is in flight,
 * and for what was done before the cursor passed it.
 */
import { RESYNC_EPOCH, type MessageRef } from "../../contract/message.ts";
import { clock } from "../../time.ts";
import type { Database } from "./database.ts";
import { dropClaimedFingerprint, markFingerprintDelivered, identify } from "./fingerprints.ts";
import { integer } from "./row.ts";
import { CLAIMED, DONE, FREE } from "./schema.ts";
import type { Claim, Ledger } from "../store.ts";

export function sqliteLedger(db: Database): Ledger {
  return {
    claim: (mailbox, messages, ttlMs) =>
      db.transactGrouped(() => {
        const now = clock.now();
        return messages.map((ref) => claim(db, mailbox, ref, { now, expires: now + ttlMs }));
      }),
    renew: (mailbox, messages, ttlMs) =>
      db.transactGrouped(() => {
        const sql = `update messages set expires = ? where ${WHERE_MESSAGE} and state = ?`;
        const expires = clock.now() + Math.ceil(ttlMs);
        for (const { folder, epoch, uid } of messages) db.run(sql, expires, mailbox, folder, epoch, uid, CLAIMED);
      }),
    identify: (mailbox, message, fingerprint, ttlMs) =>
      db.transactGrouped(() => identify(db, { mailbox, ref: message }, fingerprint, ttlMs)),
    release: (mailbox, messages) =>
      db.transactGrouped(() => {
        for (const ref of messages) {
          const values = [FREE, mailbox, ref.folder, ref.epoch, ref.uid, CLAIMED];
          db.run(`update messages set state = ? where ${WHERE_MESSAGE} and state = ?`, ...values);
          dropClaimedFingerprint(db, mailbox, ref);
        }
      }),
    markDone: (mailbox, messages) =>
      db.transactGrouped(() => {
        for (const ref of messages) {
          markDone(db, mailbox, ref);
          dropClaimedFingerprint(db, mailbox, ref);
        }
      }),
  };
}

const WHERE_MESSAGE = "mailbox = ? and folder = ? and epoch = ? and uid = ?";
const WRITE = `insert into messages (mailbox, folder, epoch, uid, state, expires) values (?, ?, ?, ?, ?, ?)
  on conflict do update set state = excluded.state, expires = excluded.expires`;

function writeEntry(db: Database, mailbox: string, ref: MessageRef, to: { state: number; expires: number }): void {
  db.run(WRITE, mailbox, ref.folder, ref.epoch, ref.uid, to.state, to.expires);
}

function findEntry(db: Database, mailbox: string, ref: MessageRef): { state: number; expires: number } | undefined {
  const sql = `select state, expires from messages where ${WHERE_MESSAGE}`;
  const row = db.get(sql, mailbox, ref.folder, ref.epoch, ref.uid);
  return row && { state: integer(row, "state"), expires: integer(row, "expires") };
}

function claim(db: Database, mailbox: string, ref: MessageRef, at: { now: number; expires: number }): Claim {
  const found = findEntry(db, mailbox, ref);
  if (found === undefined && ref.uid <= lowWaterMark(db, mailbox, ref)) return "done";
  if (found?.state === DONE) return "done";
  if (found?.state === CLAIMED && found.expires > at.now) return "busy";
  writeEntry(db, mailbox, ref, { state: CLAIMED, expires: at.expires });
  return "yours";
}

/**
 * The cursor's uid in the message's folder and epoch. 0 when there is no cursor for them, and for messages of a resync.
 */
export function lowWaterMark(db: Database, mailbox: string, ref: { folder: string; epoch: string }): number {
  if (ref.epoch === RESYNC_EPOCH) return Number.MAX_SAFE_INTEGER;
  const sql = "select uid from cursors where mailbox = ? and folder = ? and epoch = ?";
  const row = db.get(sql, mailbox, ref.folder, ref.epoch);
  return row === undefined ? 0 : integer(row, "uid");
}

function markDone(db: Database, mailbox: string, ref: MessageRef): void {
  if (ref.uid > lowWaterMark(db, mailbox, ref)) writeEntry(db, mailbox, ref, { state: DONE, expires: 0 });
  else db.run(`delete from messages where ${WHERE_MESSAGE}`, mailbox, ref.folder, ref.epoch, ref.uid);
}

/** Runs inside a transaction: a delivery record holds the message now, and its content counts as delivered. */
export function markDelivered(db: Database, mailbox: string, ref: MessageRef): void {
  markDone(db, mailbox, ref);
  markFingerprintDelivered(db, mailbox, ref);
}

/** Runs inside a transaction: adds the message as free, unless the ledger knows it already. */
export function addMessage(db: Database, mailbox: string, ref: MessageRef): void {
  const sql = `insert into messages (mailbox, folder, epoch, uid, state, expires) values (?, ?, ?, ?, ?, 0)
    on conflict do nothing`;
  db.run(sql, mailbox, ref.folder, ref.epoch, ref.uid, FREE);
}

/** Runs inside a transaction: makes the message free whatever became of it, unless somebody is working on it. */
export function reopen(db: Database, mailbox: string, ref: MessageRef): void {
  const found = findEntry(db, mailbox, ref);
  if (found?.state === CLAIMED && found.expires > clock.now()) return;
  writeEntry(db, mailbox, ref, { state: FREE, expires: 0 });
}
