/** Cursors and fences in SQLite. */
import { RESYNC_EPOCH, type Cursor, type MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import type { Claims } from "../memory/claims.ts";
import type { Database } from "./database.ts";
import { reopen, addMessage } from "./ledger.ts";
import { integer, type Row, text, textOrNull } from "./row.ts";
import { DONE } from "./schema.ts";
import type { Cursors } from "../store.ts";

export function sqliteCursors(db: Database, claims: Claims): Cursors {
  return {
    issueFence: async (mailbox) => db.transact(() => issueFence(db, mailbox)),
    async read(mailbox) {
      return db.all("select * from cursors where mailbox = ? order by folder", mailbox).map(toCursor);
    },
    async advance(mailbox, cursor, messages, fence) {
      db.transact(() => {
        checkFence(db, mailbox, fence);
        advance(db, mailbox, cursor, messages);
      });
    },
    async reopen(mailbox, messages) {
      db.transact(() => {
        for (const ref of messages) reopen(db, claims, mailbox, ref);
      });
    },
  };
}

/** One counter for all mailboxes. So a new mailbox with the id of a removed one never gets an old fence. */
function issueFence(db: Database, mailbox: string): number {
  const row = db.get("update meta set value = value + 1 where name = 'fence' returning value");
  const fence = integer(row, "value");
  db.run("insert or replace into fences (mailbox, fence) values (?, ?)", mailbox, fence);
  return fence;
}

function checkFence(db: Database, mailbox: string, fence: number): void {
  const row = db.get("select fence from fences where mailbox = ?", mailbox);
  if (row !== undefined && integer(row, "fence") === fence) return;
  throw new Problem("conflict", `The mailbox ${mailbox} has another owner now, or was removed`, { retry: "never" });
}

function advance(db: Database, mailbox: string, cursor: Cursor, messages: MessageRef[]): void {
  const { folder, epoch, state } = cursor;
  const row = db.get("select * from cursors where mailbox = ? and folder = ?", mailbox, folder);
  const previous = row && toCursor(row);
  const sameEpoch = previous?.epoch === epoch ? previous : undefined;
  const uid = Math.max(cursor.uid, sameEpoch?.uid ?? 0);
  const newest = sameEpoch !== undefined && sameEpoch.newest > cursor.newest ? sameEpoch.newest : cursor.newest;
  for (const ref of messages) {
    // A message at or below the cursor without a row is done. It must not get a row again.
    if (sameEpoch === undefined || ref.uid > sameEpoch.uid) addMessage(db, mailbox, ref);
  }
  db.run(
    "insert or replace into cursors (mailbox, folder, epoch, uid, state, newest) values (?, ?, ?, ?, ?, ?)",
    mailbox,
    folder,
    epoch,
    uid,
    state,
    newest,
  );
  const deletePassed = "delete from messages where mailbox = ? and folder = ? and epoch = ? and uid <= ? and state = ?";
  db.run(deletePassed, mailbox, folder, epoch, uid, DONE);
  if (previous !== undefined && sameEpoch === undefined) {
    const deleteOtherEpochs = "delete from messages where mailbox = ? and folder = ? and epoch not in (?, ?)";
    db.run(deleteOtherEpochs, mailbox, folder, epoch, RESYNC_EPOCH);
  }
}

function toCursor(row: Row): Cursor {
  const [folder, epoch, newest] = [text(row, "folder"), text(row, "epoch"), text(row, "newest")];
  return { folder, epoch, uid: integer(row, "uid"), state: textOrNull(row, "state"), newest };
}
