/** Cursors and fences in SQLite. */
import { AGAIN, type Cursor, type MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import type { Database } from "./database.ts";
import { reopen, takeCare } from "./ledger.ts";
import { integer, type Row, text, textOrNull } from "./row.ts";
import { DONE } from "./schema.ts";
import type { Cursors } from "../store.ts";

export function sqliteCursors(db: Database): Cursors {
  return {
    fence: async (mailbox) => db.step(() => nextFence(db, mailbox)),
    async read(mailbox) {
      return db.all("select * from cursors where mailbox = ? order by folder", mailbox).map(cursorOf);
    },
    async advance(mailbox, cursor, messages, fence) {
      db.step(() => {
        checkFence(db, mailbox, fence);
        advance(db, mailbox, cursor, messages);
      });
    },
    async reopen(mailbox, messages) {
      db.step(() => {
        for (const ref of messages) reopen(db, mailbox, ref);
      });
    },
  };
}

/** One counter for all mailboxes, so that a fence of a removed mailbox is never given to its namesake. */
function nextFence(db: Database, mailbox: string): number {
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
  const before = row && cursorOf(row);
  const same = before?.epoch === epoch ? before : undefined;
  const uid = Math.max(cursor.uid, same?.uid ?? 0);
  const newest = same !== undefined && same.newest > cursor.newest ? same.newest : cursor.newest;
  for (const ref of messages) {
    // At or below the cursor, a message without a row is done: it must not come back.
    if (same === undefined || ref.uid > same.uid) takeCare(db, mailbox, ref);
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
  const passed = "delete from messages where mailbox = ? and folder = ? and epoch = ? and uid <= ? and state = ?";
  db.run(passed, mailbox, folder, epoch, uid, DONE);
  if (before !== undefined && same === undefined) {
    const others = "delete from messages where mailbox = ? and folder = ? and epoch not in (?, ?)";
    db.run(others, mailbox, folder, epoch, AGAIN);
  }
}

function cursorOf(row: Row): Cursor {
  const [folder, epoch, newest] = [text(row, "folder"), text(row, "epoch"), text(row, "newest")];
  return { folder, epoch, uid: integer(row, "uid"), state: textOrNull(row, "state"), newest };
}
