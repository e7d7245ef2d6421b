/** From when on messages of a folder count, for protocols whose servers say when they received each. */
import type { Mailbox } from "../contract/mailbox.ts";
import type { Cursor } from "../contract/message.ts";

const MINUTE = 60 * 1000;
const DAY = 24 * 60 * MINUTE;
/** How far a server's clock may be behind this one. */
const CLOCK_SKEW_MS = 10 * MINUTE;

/**
 * What "now" means for a folder without a cursor, in milliseconds: the registration, however late the first connection succeeds; for a
 * folder added later, that change. Mail servers tell whole seconds: what came within that second counts as before it.
 */
export function startOf(mailbox: Mailbox, cursors: Cursor[]): number {
  const began = Date.parse(cursors.length === 0 ? mailbox.createdAt : mailbox.updatedAt);
  return Math.floor(began / 1000) * 1000 + 1000;
}

/** Where a folder is read again: a day before the newest message handed over, but never before what the mailbox was registered for. */
export function overlap(mailbox: Mailbox, cursor: Cursor): number {
  const { since } = mailbox.receive;
  const start = since === "now" ? Date.parse(mailbox.createdAt) - CLOCK_SKEW_MS : Date.parse(since);
  return Math.max(Date.parse(cursor.newest) - DAY, start || 0);
}
