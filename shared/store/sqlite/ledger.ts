/**
 * The ledger in SQLite. Done messages need no row: they lie at or below their folder's cursor. Rows exist for what is in
 * flight, and for what is done before the cursor has passed it.
 */
import { AGAIN, type MessageRef } from "../../contract/message.ts";
import type { Database } from "./database.ts";
import { dropClaimedPrint, finishPrint, identify } from "./fingerprints.ts";
import { integer } from "./row.ts";
import { CLAIMED, DONE, FREE } from "./schema.ts";
import type { Claim, Ledger } from "../store.ts";

export function sqliteLedger(db: Database): Ledger {
  return {
    claim: (mailbox, messages, ttlMs) =>
      db.together(() => {
        const now = Date.now();
        return messages.map((ref) => claim(db, mailbox, ref, { now, expires: now + ttlMs }));
      }),
    keep: (mailbox, messages, ttlMs) =>
      db.together(() => {
        const sql = `update messages set expires = ? where ${PLACE} and state = ?`;
        const expires = Date.now() + Math.ceil(ttlMs);
        for (const { folder, epoch, uid } of messages) db.run(sql, expires, mailbox, folder, epoch, uid, CLAIMED);
      }),
    identify: (mailbox, message, fingerprint, ttlMs) =>
      db.together(() => identify(db, { mailbox, ref: message }, fingerprint, ttlMs)),
    release: (mailbox, messages) =>
      db.together(() => {
        for (const ref of messages) {
          const values = [FREE, mailbox, ref.folder, ref.epoch, ref.uid, CLAIMED];
          db.run(`update messages set state = ? where ${PLACE} and state = ?`, ...values);
          dropClaimedPrint(db, mailbox, ref);
        }
      }),
    settle: (mailbox, messages) =>
      db.together(() => {
        for (const ref of messages) {
          markDone(db, mailbox, ref);
          dropClaimedPrint(db, mailbox, ref);
        }
      }),
  };
}

const PLACE = "mailbox = ? and folder = ? and epoch = ? and uid = ?";
const WRITE = `insert into messages (mailbox, folder, epoch, uid, state, expires) values (?, ?, ?, ?, ?, ?)
  on conflict do update set state = excluded.state, expires = excluded.expires`;

function write(db: Database, mailbox: string, ref: MessageRef, to: { state: number; expires: number }): void {
  db.run(WRITE, mailbox, ref.folder, ref.epoch, ref.uid, to.state, to.expires);
}

function find(db: Database, mailbox: string, ref: MessageRef): { state: number; expires: number } | undefined {
  const sql = `select state, expires from messages where ${PLACE}`;
  const row = db.get(sql, mailbox, ref.folder, ref.epoch, ref.uid);
  return row && { state: integer(row, "state"), expires: integer(row, "expires") };
}

function claim(db: Database, mailbox: string, ref: MessageRef, at: { now: number; expires: number }): Claim {
  const found = find(db, mailbox, ref);
  if (found === undefined && ref.uid <= lowWater(db, mailbox, ref)) return "done";
  if (found?.state === DONE) return "done";
  if (found?.state === CLAIMED && found.expires > at.now) return "busy";
  write(db, mailbox, ref, { state: CLAIMED, expires: at.expires });
  return "yours";
}

/** The cursor's uid in the message's folder and epoch; 0 when it has none there. What is looked up again lies below all cursors. */
export function lowWater(db: Database, mailbox: string, ref: { folder: string; epoch: string }): number {
  if (ref.epoch === AGAIN) return Number.MAX_SAFE_INTEGER;
  const sql = "select uid from cursors where mailbox = ? and folder = ? and epoch = ?";
  const row = db.get(sql, mailbox, ref.folder, ref.epoch);
  return row === undefined ? 0 : integer(row, "uid");
}

function markDone(db: Database, mailbox: string, ref: MessageRef): void {
  if (ref.uid > lowWater(db, mailbox, ref)) write(db, mailbox, ref, { state: DONE, expires: 0 });
  else db.run(`delete from messages where ${PLACE}`, mailbox, ref.folder, ref.epoch, ref.uid);
}

/** Part of a step: a delivery record has the message now, and its content counts as delivered. */
export function handOver(db: Database, mailbox: string, ref: MessageRef): void {
  markDone(db, mailbox, ref);
  finishPrint(db, mailbox, ref);
}

/** Part of a step: the message is in the ledger's care as free, unless the ledger knows it already. */
export function takeCare(db: Database, mailbox: string, ref: MessageRef): void {
  const sql = `insert into messages (mailbox, folder, epoch, uid, state, expires) values (?, ?, ?, ?, ?, 0)
    on conflict do nothing`;
  db.run(sql, mailbox, ref.folder, ref.epoch, ref.uid, FREE);
}

/** Part of a step: the message is free whatever became of it, except while somebody works on it. */
export function reopen(db: Database, mailbox: string, ref: MessageRef): void {
  const found = find(db, mailbox, ref);
  if (found?.state === CLAIMED && found.expires > Date.now()) return;
  write(db, mailbox, ref, { state: FREE, expires: 0 });
}
