/** The window of content fingerprints in SQLite: it recognises a message that was moved or renumbered, and tells twins apart. */
import { createHash } from "node:crypto";
import type { MessageRef } from "../../contract/message.ts";
import type { Database } from "./database.ts";
import { integer, text } from "./row.ts";
import { CLAIMED, DONE } from "./schema.ts";
import type { Identity } from "../store.ts";

/** A message of a mailbox. */
type Place = { mailbox: string; ref: MessageRef };
type Print = { folder: string; epoch: string; uid: number; state: number; expires: number };

/** Part of a step: `identify` of the ledger. `fingerprint` is 16 bytes in hex. */
export function identify(db: Database, place: Place, fingerprint: string, ttlMs: number): Identity {
  const print = Buffer.from(fingerprint, "hex");
  const found = find(db, place.mailbox, print);
  if (found === undefined || !isTwin(found, place.ref)) {
    return { kind: take(db, place, { print, found, ttlMs }), twin: false };
  }
  const own = twinPrint(print, place.ref);
  const answer = take(db, place, { print: own, found: find(db, place.mailbox, own), ttlMs });
  return { kind: answer, twin: true };
}

function take(
  db: Database,
  place: Place,
  at: { print: Buffer; found: Print | undefined; ttlMs: number },
): Identity["kind"] {
  const { found, print, ttlMs } = at;
  const now = Date.now();
  if (found?.state === DONE) return "duplicate";
  if (found !== undefined && !isSame(found, place.ref) && found.expires > now) return "busy";
  const { folder, epoch, uid } = place.ref;
  db.run(
    "insert or replace into prints (mailbox, print, folder, epoch, uid, state, expires, at) values (?, ?, ?, ?, ?, ?, ?, ?)",
    place.mailbox,
    print,
    folder,
    epoch,
    uid,
    CLAIMED,
    now + ttlMs,
    now,
  );
  return "new";
}

function find(db: Database, mailbox: string, print: Buffer): Print | undefined {
  const sql = "select folder, epoch, uid, state, expires from prints where mailbox = ? and print = ?";
  const row = db.get(sql, mailbox, print);
  if (row === undefined) return undefined;
  const [uid, state, expires] = [integer(row, "uid"), integer(row, "state"), integer(row, "expires")];
  return { folder: text(row, "folder"), epoch: text(row, "epoch"), uid, state, expires };
}

function isSame(found: Print, ref: MessageRef): boolean {
  return found.folder === ref.folder && found.epoch === ref.epoch && found.uid === ref.uid;
}

/** Within one folder and epoch a uid is never given twice (RFC 9051, 2.3.1.1), so another uid is another message. */
function isTwin(found: Print, ref: MessageRef): boolean {
  return found.folder === ref.folder && found.epoch === ref.epoch && found.uid !== ref.uid;
}

function twinPrint(print: Buffer, ref: MessageRef): Buffer {
  const place = `${print.toString("hex")}|${ref.folder}|${ref.epoch}|${ref.uid}`;
  return createHash("sha256").update(place).digest().subarray(0, 16);
}

/** Named, because the planner would rather walk through all prints of the mailbox. */
const CLAIMED_PRINTS = "prints indexed by prints_claimed";
const CLAIMED_AT = "mailbox = ? and folder = ? and epoch = ? and uid = ? and state = 1";

/** Part of a step: the content claimed from this place is delivered, or in a delivery's care. */
export function finishPrint(db: Database, mailbox: string, ref: MessageRef): void {
  const values = [DONE, Date.now(), mailbox, ref.folder, ref.epoch, ref.uid];
  db.run(`update ${CLAIMED_PRINTS} set state = ?, at = ? where ${CLAIMED_AT}`, ...values);
}

/** Part of a step: nothing came of this place, so the same content elsewhere is not kept waiting. */
export function dropClaimedPrint(db: Database, mailbox: string, ref: MessageRef): void {
  db.run(`delete from ${CLAIMED_PRINTS} where ${CLAIMED_AT}`, mailbox, ref.folder, ref.epoch, ref.uid);
}
