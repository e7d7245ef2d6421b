/**
 * The ledger in SQLite. A done message at or below its folder's cursor needs no row. Rows exist for what is not done yet, and for what
 * was done before the cursor passed it. Claims are in memory, because only this process works on the file.
 */
import { RESYNC_EPOCH, type MessageRef } from "../../contract/message.ts";
import { clock } from "../../time.ts";
import type { Claims } from "../memory/claims.ts";
import type { Database } from "./database.ts";
import { identify, writeDeliveredFingerprints } from "./fingerprints.ts";
import { integer } from "./row.ts";
import { DONE, FREE } from "./schema.ts";
import type { Claim, Ledger } from "../store.ts";

export function sqliteLedger(db: Database, claims: Claims): Ledger {
  return {
    async claim(mailbox, messages, ttlMs) {
      const now = clock.now();
      const at = { now, expires: now + ttlMs };
      // One look into the file for all of them.
      return db.transact(() => messages.map((ref) => claim(db, claims, { mailbox, ref }, at)));
    },
    async renew(mailbox, messages, ttlMs) {
      const expires = clock.now() + ttlMs;
      for (const ref of messages) if (claims.expiryOf(mailbox, ref) !== undefined) claims.claim(mailbox, ref, expires);
    },
    async identify(mailbox, ref, fingerprint, ttlMs) {
      return identify(db, claims, { mailbox, ref }, { fingerprint, ttlMs });
    },
    async release(mailbox, messages) {
      claims.drop(mailbox, messages);
    },
    async markDone(mailbox, messages) {
      await db.transactGrouped(() => {
        for (const ref of messages) markDone(db, mailbox, ref);
      });
      claims.drop(mailbox, messages);
    },
  };
}

const WHERE_MESSAGE = "mailbox = ? and folder = ? and epoch = ? and uid = ?";
const WRITE = `insert into messages (mailbox, folder, epoch, uid, state, expires) values (?, ?, ?, ?, ?, 0)
  on conflict do update set state = excluded.state, expires = 0`;

function writeState(db: Database, mailbox: string, ref: MessageRef, state: number): void {
  db.run(WRITE, mailbox, ref.folder, ref.epoch, ref.uid, state);
}

/** FREE or DONE. Undefined without a row. */
function findState(db: Database, mailbox: string, ref: MessageRef): number | undefined {
  const sql = `select state from messages where ${WHERE_MESSAGE}`;
  const row = db.get(sql, mailbox, ref.folder, ref.epoch, ref.uid);
  return row && integer(row, "state");
}

function claim(
  db: Database,
  claims: Claims,
  { mailbox, ref }: { mailbox: string; ref: MessageRef },
  { now, expires }: { now: number; expires: number },
): Claim {
  const state = findState(db, mailbox, ref) ?? (ref.uid <= lowWaterMark(db, mailbox, ref) ? DONE : FREE);
  if (state === DONE) return "done";
  if (isClaimed(claims, mailbox, ref, now)) return "busy";
  claims.claim(mailbox, ref, expires);
  return "yours";
}

function isClaimed(claims: Claims, mailbox: string, ref: MessageRef, now: number): boolean {
  return (claims.expiryOf(mailbox, ref) ?? 0) > now;
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
  if (ref.uid > lowWaterMark(db, mailbox, ref)) writeState(db, mailbox, ref, DONE);
  else db.run(`delete from messages where ${WHERE_MESSAGE}`, mailbox, ref.folder, ref.epoch, ref.uid);
}

/**
 * Runs inside a transaction: a delivery record holds the message now, and its content counts as delivered. After the commit the caller
 * drops the message's claims.
 */
export function markDelivered(db: Database, claims: Claims, mailbox: string, ref: MessageRef): void {
  markDone(db, mailbox, ref);
  writeDeliveredFingerprints(db, claims, mailbox, ref);
}

/** Runs inside a transaction: adds the message as free, unless the ledger knows it already. */
export function addMessage(db: Database, mailbox: string, ref: MessageRef): void {
  const sql = `insert into messages (mailbox, folder, epoch, uid, state, expires) values (?, ?, ?, ?, ?, 0)
    on conflict do nothing`;
  db.run(sql, mailbox, ref.folder, ref.epoch, ref.uid, FREE);
}

/** Runs inside a transaction: makes the message free whatever became of it, unless somebody is working on it. */
export function reopen(db: Database, claims: Claims, mailbox: string, ref: MessageRef): void {
  if (!isClaimed(claims, mailbox, ref, clock.now())) writeState(db, mailbox, ref, FREE);
}
