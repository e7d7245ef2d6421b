/**
 * The window of content fingerprints in SQLite. It recognises a message that was moved or renumbered, and tells twins
 * apart.
 */
import { createHash } from "node:crypto";
import type { MessageRef } from "../../contract/message.ts";
import { clock } from "../../time.ts";
import type { Claims } from "../memory/claims.ts";
import type { Database } from "./database.ts";
import { integer, text } from "./row.ts";
import { DONE } from "./schema.ts";
import type { Identity } from "../store.ts";

/** Where a message of a mailbox lies. */
type MessageLocation = { mailbox: string; ref: MessageRef };
/** The message whose content is delivered, or claimed until `expires` (ms). */
type Known = {
  at: Pick<MessageRef, "folder" | "epoch" | "uid" | "perhapsKnown">;
  delivered: boolean;
  expires: number;
};

/** `identify` of the ledger. `fingerprint` is 16 bytes in hex. */
export function identify(
  db: Database,
  claims: Claims,
  location: MessageLocation,
  { fingerprint, ttlMs }: { fingerprint: string; ttlMs: number },
): Identity {
  const found = findKnown(db, claims, location.mailbox, fingerprint);
  if (found === undefined || !isOtherMessage(found.at, location.ref))
    return { kind: claimContent(claims, location, { print: fingerprint, found, ttlMs }), sharesContent: false };
  const print = perMessageFingerprint(fingerprint, location.ref);
  const own = findKnown(db, claims, location.mailbox, print);
  return { kind: claimContent(claims, location, { print, found: own, ttlMs }), sharesContent: true };
}

function claimContent(
  claims: Claims,
  { mailbox, ref }: MessageLocation,
  { found, print, ttlMs }: { print: string; found: Known | undefined; ttlMs: number },
): Identity["kind"] {
  const now = clock.now();
  if (found?.delivered) return "duplicate";
  if (found !== undefined && !isSameMessage(found.at, ref) && found.expires > now) return "busy";
  claims.claimContent(mailbox, print, { ref, expires: now + ttlMs });
  return "new";
}

function findKnown(db: Database, claims: Claims, mailbox: string, print: string): Known | undefined {
  const sql = "select folder, epoch, uid, perhaps_known from prints where mailbox = ? and print = ?";
  const row = db.get(sql, mailbox, Buffer.from(print, "hex"));
  if (row === undefined) {
    const claimed = claims.findContent(mailbox, print);
    return claimed && { at: claimed.ref, delivered: false, expires: claimed.expires };
  }
  const at = { folder: text(row, "folder"), epoch: text(row, "epoch"), uid: integer(row, "uid") };
  const perhapsKnown = integer(row, "perhaps_known") === 1;
  return { at: perhapsKnown ? { ...at, perhapsKnown } : at, delivered: true, expires: 0 };
}

function isSameMessage(found: Known["at"], ref: MessageRef): boolean {
  return found.folder === ref.folder && found.epoch === ref.epoch && found.uid === ref.uid;
}

/**
 * A server never assigns a uid twice in one folder and epoch (RFC 9051 section 2.3.1.1), so another uid is another
 * message. Numbers of this service are as good as the names that they stand for: of two messages, the later one may be
 * the earlier one if it is perhaps known, whichever of them is delivered first.
 */
function isOtherMessage(found: Known["at"], ref: MessageRef): boolean {
  if (found.folder !== ref.folder || found.epoch !== ref.epoch || found.uid === ref.uid) return false;
  return !ref.perhapsKnown && !(found.perhapsKnown && ref.uid < found.uid);
}

function perMessageFingerprint(fingerprint: string, ref: MessageRef): string {
  const location = `${fingerprint}|${ref.folder}|${ref.epoch}|${ref.uid}`;
  return createHash("sha256").update(location).digest().subarray(0, 16).toString("hex");
}

/**
 * Runs inside a transaction: the content that was claimed from this place is delivered, or a delivery record holds it.
 */
export function writeDeliveredFingerprints(db: Database, claims: Claims, mailbox: string, ref: MessageRef): void {
  const sql = `insert or replace into prints (mailbox, print, folder, epoch, uid, state, expires, at, perhaps_known)
    values (?, ?, ?, ?, ?, ${DONE}, 0, ?, ?)`;
  const { folder, epoch, uid } = ref;
  for (const print of claims.contentsOf(mailbox, ref)) {
    const perhapsKnown = claims.findContent(mailbox, print)?.ref.perhapsKnown;
    db.run(sql, mailbox, Buffer.from(print, "hex"), folder, epoch, uid, clock.now(), perhapsKnown ? 1 : 0);
  }
}
