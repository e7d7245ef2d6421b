/** What an embedded store's file holds beyond what the Store interface tells: for moving it elsewhere. */
import type { MessageRef } from "../../contract/message.ts";
import type { DeliveredPrint } from "../redis/import.ts";
import type { Database } from "./database.ts";
import { bytes, integer, type Row, text } from "./row.ts";
import { DONE, FREE } from "./schema.ts";

/** The ledger's exceptions: messages that are not done yet, and those done before the cursor has passed them. */
export function exceptions(db: Database, mailbox: string): { open: MessageRef[]; ahead: MessageRef[] } {
  const sql = "select folder, epoch, uid from messages where mailbox = ? and state = ?";
  return { open: db.all(sql, mailbox, FREE).map(refOf), ahead: db.all(sql, mailbox, DONE).map(refOf) };
}

/** Where a message lies; its size and time are not kept here, and nobody asks the ledger for them. */
function refOf(row: Row): MessageRef {
  return {
    folder: text(row, "folder"),
    epoch: text(row, "epoch"),
    uid: integer(row, "uid"),
    size: 0,
    receivedAt: new Date(0).toISOString(),
  };
}

/** Prints of delivered content since a time (ms). */
export function deliveredPrints(db: Database, mailbox: string, since: number): DeliveredPrint[] {
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
export function sendingIds(db: Database, mailbox: string): string[] {
  return db.all("select id from outbox where mailbox = ? order by created_at", mailbox).map((row) => text(row, "id"));
}
