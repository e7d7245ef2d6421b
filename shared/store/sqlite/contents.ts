/** Reads what a SQLite store's file holds beyond the Store interface, to move it into another store. */
import type { MessageRef } from "../../contract/message.ts";
import type { Database } from "./database.ts";
import { bytes, integer, type Row, text } from "./row.ts";
import { DONE, FREE } from "./schema.ts";
import type { DeliveredFingerprint } from "../delivered-fingerprint.ts";

/**
 * The rows of the ledger: messages that are not done yet, and messages that were done before the cursor passed them.
 */
export function readLedgerExceptions(db: Database, mailbox: string): { open: MessageRef[]; ahead: MessageRef[] } {
  const sql = "select folder, epoch, uid from messages where mailbox = ? and state = ?";
  return { open: db.all(sql, mailbox, FREE).map(toMessageRef), ahead: db.all(sql, mailbox, DONE).map(toMessageRef) };
}

/** Where a message lies. The ledger does not store its size and time, and nobody needs them from here. */
function toMessageRef(row: Row): MessageRef {
  return {
    folder: text(row, "folder"),
    epoch: text(row, "epoch"),
    uid: integer(row, "uid"),
    size: 0,
    receivedAt: new Date(0).toISOString(),
  };
}

/** Fingerprints of content that was delivered since a time (ms). */
export function listDeliveredFingerprints(db: Database, mailbox: string, since: number): DeliveredFingerprint[] {
  const sql = "select print, folder, epoch, uid, at from prints where mailbox = ? and state = ? and at >= ?";
  return db.all(sql, mailbox, DONE, since).map((row) => ({
    print: Buffer.from(bytes(row, "print")).toString("hex"),
    folder: text(row, "folder"),
    epoch: text(row, "epoch"),
    uid: integer(row, "uid"),
    at: integer(row, "at"),
  }));
}

/** Ids of a mailbox's outgoing messages, oldest first. */
export function listSendingIds(db: Database, mailbox: string): string[] {
  return db.all("select id from outbox where mailbox = ? order by created_at", mailbox).map((row) => text(row, "id"));
}
