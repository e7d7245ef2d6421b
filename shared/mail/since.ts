/** From which date on messages of a folder count, for protocols whose servers say when they received each message. */
import type { Mailbox } from "../contract/mailbox.ts";
import type { Cursor } from "../contract/message.ts";
import { clock } from "../time.ts";

const MINUTE = 60 * 1000;
const DAY = 24 * 60 * MINUTE;
/** How far a server's clock may be late or early. */
const CLOCK_SKEW_MS = 10 * MINUTE;
/** Older dates than IMAP itself come from servers without a date (1858, 1970, 1980). */
const OLDEST_DATE = Date.parse("1990-01-01T00:00:00Z");

/** False for the date of a message, in milliseconds, that cannot be true: in the future, or before IMAP existed. */
export function isCredibleDate(time: number): boolean {
  return time >= OLDEST_DATE && time <= clock.now() + CLOCK_SKEW_MS;
}

/**
 * What "now" means for a folder without a cursor, in milliseconds: the registration, however late the first connection
 * succeeds. For a folder that was added later it is that change. Mail servers report whole seconds, so a message of
 * that second counts as older.
 */
export function getWatchStart(mailbox: Mailbox, cursors: Cursor[]): number {
  const began = Date.parse(cursors.length === 0 ? mailbox.createdAt : mailbox.updatedAt);
  return Math.floor(began / 1000) * 1000 + 1000;
}

/**
 * From which date on messages belong to the mailbox, in milliseconds: its `since`, or its registration with some room
 * for a late server clock.
 */
export function getMailboxStart({ receive: { since }, createdAt }: Mailbox): number {
  const start = since === "now" ? Date.parse(createdAt) - CLOCK_SKEW_MS : Date.parse(since);
  return start || 0;
}

/**
 * From where a folder is read again: a day before the newest message that was handed over, but not before the mailbox's
 * start.
 */
export function getResyncStart(mailbox: Mailbox, cursor: Cursor): number {
  // A message with a date in the future would hide everything after it.
  const newest = Math.min(Date.parse(cursor.newest), clock.now());
  return Math.max(newest - DAY, getMailboxStart(mailbox));
}
