/**
 * The names of messages that are missing from a maildrop, with the time since when. They are kept in a cursor's state
 * among the numbers of messages: each with the number 0, after a mark with the minute. Names without a mark are old.
 */
import type { AssignedUids } from "../assigned-uids.ts";

/** When each name went missing, in ms, the oldest first. 0 means that nobody knows. */
export type MissingNames = ReadonlyMap<string, number>;

/** So many names stay in the cursor. */
export const MAX_MISSING = 500;
const MISSING = 0;
/** The first half of a mark; no name's hash begins so, but for one of four thousand million. */
const MARK = Buffer.alloc(4, 0xff);
const MINUTE = 60_000;
/** A server that is moved, or mended, may show part of a maildrop, or none of it, over a weekend. */
const LATELY_MS = 3 * 24 * 3_600_000;

/** The numbers of messages, and the names of those that are missing. */
export function splitMissing(all: AssignedUids): { uids: AssignedUids; missing: MissingNames } {
  const [uids, missing] = [new Map<string, number>(), new Map<string, number>()];
  let since = 0;
  for (const [hash, uid] of all) {
    const minute = uid === MISSING ? parseMark(hash) : undefined;
    if (minute !== undefined) since = minute * MINUTE;
    else if (uid === MISSING) missing.set(hash, since);
    else uids.set(hash, uid);
  }
  return { uids, missing };
}

/** The numbers with the newest of the missing names. A name that has a number again is not missing. */
export function withMissing(uids: AssignedUids, missing: MissingNames): AssignedUids {
  const all = new Map<string, number>();
  let marked = 0;
  for (const [hash, since] of [...missing].filter(([name]) => !uids.has(name)).slice(-MAX_MISSING)) {
    const minute = Math.floor(since / MINUTE);
    if (minute !== marked) all.set(toMark(minute), MISSING);
    marked = minute;
    all.set(hash, MISSING);
  }
  return new Map([...all, ...uids]);
}

/**
 * The numbers after the cursor has passed them all. A name that has a number and is not listed was perhaps never handed
 * over, so it loses its number: a message that comes back is handed over under a new one.
 */
export function withoutUnlisted(all: AssignedUids, missing: MissingNames): AssignedUids {
  const listed = [...splitMissing(all).uids].filter(([hash]) => !missing.has(hash));
  return withMissing(new Map(listed), missing);
}

/** How many names went missing within three days. */
export function countLatelyMissing(missing: MissingNames, now: number): number {
  return [...missing.values()].filter((since) => now - since < LATELY_MS).length;
}

function toMark(minute: number): string {
  const rest = Buffer.alloc(4);
  rest.writeUInt32BE(minute);
  return Buffer.concat([MARK, rest]).toString("base64");
}

function parseMark(hash: string): number | undefined {
  const bytes = Buffer.from(hash, "base64");
  return bytes.subarray(0, MARK.length).equals(MARK) ? bytes.readUInt32BE(MARK.length) : undefined;
}
