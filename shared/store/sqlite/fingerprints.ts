/**
 * The window of content fingerprints in SQLite. It recognises a message that was moved or renumbered, and tells twins
 * apart.
 */
import { createHash } from "node:crypto";
import type { MessageRef } from "../../contract/message.ts";
import { clock } from "../../time.ts";
import type { Database } from "./database.ts";
import { integer, text } from "./row.ts";
import { CLAIMED, DONE } from "./schema.ts";
import type { Identity } from "../store.ts";

/** Where a message of a mailbox lies. */
type MessageLocation = { mailbox: string; ref: MessageRef };
type Fingerprint = {
  folder: string;
  epoch: string;
  uid: number;
  state: number;
  expires: number;
  perhapsKnown: boolean;
};

/** Runs inside a transaction: `identify` of the ledger. `fingerprint` is 16 bytes in hex. */
export function identify(db: Database, location: MessageLocation, fingerprint: string, ttlMs: number): Identity {
  const digest = Buffer.from(fingerprint, "hex");
  const found = findFingerprint(db, location.mailbox, digest);
  if (found === undefined || !isOtherMessage(found, location.ref)) {
    return { kind: claimFingerprint(db, location, { print: digest, found, ttlMs }), sharesContent: false };
  }
  const ownDigest = perMessageFingerprint(digest, location.ref);
  const kind = claimFingerprint(db, location, {
    print: ownDigest,
    found: findFingerprint(db, location.mailbox, ownDigest),
    ttlMs,
  });
  return { kind, sharesContent: true };
}

function claimFingerprint(
  db: Database,
  location: MessageLocation,
  at: { print: Buffer; found: Fingerprint | undefined; ttlMs: number },
): Identity["kind"] {
  const { found, print, ttlMs } = at;
  const now = clock.now();
  if (found?.state === DONE) return "duplicate";
  if (found !== undefined && !isSameMessage(found, location.ref) && found.expires > now) return "busy";
  const { folder, epoch, uid } = location.ref;
  db.run(
    `insert or replace into prints (mailbox, print, folder, epoch, uid, state, expires, at, perhaps_known)
       values (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    location.mailbox,
    print,
    folder,
    epoch,
    uid,
    CLAIMED,
    now + ttlMs,
    now,
    location.ref.perhapsKnown ? 1 : 0,
  );
  return "new";
}

function findFingerprint(db: Database, mailbox: string, digest: Buffer): Fingerprint | undefined {
  const sql = "select folder, epoch, uid, state, expires, perhaps_known from prints where mailbox = ? and print = ?";
  const row = db.get(sql, mailbox, digest);
  if (row === undefined) return undefined;
  const [uid, state, expires] = [integer(row, "uid"), integer(row, "state"), integer(row, "expires")];
  const perhapsKnown = integer(row, "perhaps_known") === 1;
  return { folder: text(row, "folder"), epoch: text(row, "epoch"), uid, state, expires, perhapsKnown };
}

function isSameMessage(found: Fingerprint, ref: MessageRef): boolean {
  return found.folder === ref.folder && found.epoch === ref.epoch && found.uid === ref.uid;
}

/**
 * A server never assigns a uid twice in one folder and epoch (RFC 9051 section 2.3.1.1), so another uid is another
 * message. Numbers of this service are as good as the names that they stand for: of two messages, the later one may be
 * the earlier one if it is perhaps known, whichever of them is delivered first.
 */
function isOtherMessage(found: Fingerprint, ref: MessageRef): boolean {
  if (found.folder !== ref.folder || found.epoch !== ref.epoch || found.uid === ref.uid) return false;
  return !ref.perhapsKnown && !(found.perhapsKnown && ref.uid < found.uid);
}

function perMessageFingerprint(digest: Buffer, ref: MessageRef): Buffer {
  const location = `${digest.toString("hex")}|${ref.folder}|${ref.epoch}|${ref.uid}`;
  return createHash("sha256").update(location).digest().subarray(0, 16);
}

/** The index is named, because the query planner would otherwise scan all fingerprints of the mailbox. */
const CLAIMED_FINGERPRINTS = "prints indexed by prints_claimed";
const WHERE_CLAIMED = "mailbox = ? and folder = ? and epoch = ? and uid = ? and state = 1";

/**
 * Runs inside a transaction: the content that was claimed from this place is delivered, or a delivery record holds it.
 */
export function markFingerprintDelivered(db: Database, mailbox: string, ref: MessageRef): void {
  const values = [DONE, clock.now(), mailbox, ref.folder, ref.epoch, ref.uid];
  db.run(`update ${CLAIMED_FINGERPRINTS} set state = ?, at = ? where ${WHERE_CLAIMED}`, ...values);
}

/**
 * Runs inside a transaction: nothing was delivered from this place, so the same content in another place need not wait.
 */
export function dropClaimedFingerprint(db: Database, mailbox: string, ref: MessageRef): void {
  db.run(`delete from ${CLAIMED_FINGERPRINTS} where ${WHERE_CLAIMED}`, mailbox, ref.folder, ref.epoch, ref.uid);
}
