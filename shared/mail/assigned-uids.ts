/**
 * Assigns ascending numbers to messages of protocols that have none (POP3, EWS). One number must never mean two
 * messages, because the second would count as done. One message must never have two numbers, because it would count as
 * another message with the same content and be delivered twice. So new numbers are stored before the first of their
 * messages is handed over: by an arrival without messages, whose cursor has the new state and the old `uid` and
 * `newest`. After a crash the numbers are still there.
 */
import { createHash } from "node:crypto";

/**
 * The assigned numbers, by a hash of the message's name: twelve bytes for each message in a cursor's state. 0 is for a
 * message that lost its number: it gets a new one when it is back.
 */
export type AssignedUids = ReadonlyMap<string, number>;

export type UidAssignment<T> = {
  /** The messages with their numbers, in the given order. */
  messages: (T & { uid: number })[];
  /** What to store from now on: the numbers of these messages, and of missing ones that the cursor has not passed. */
  uids: AssignedUids;
  /** The highest number. It becomes the cursor's uid when everything is handed over. */
  highestUid: number;
  /** True if a number is new. It must be stored before its message is handed over. */
  hasNewUids: boolean;
};

const FORMAT_PREFIX = "pop3-1:";
const HASH_BYTES = 8;
const ENTRY_BYTES = HASH_BYTES + 4;

/** Assigns numbers to those messages that have none, above all earlier numbers. `cursorUid` is the cursor's `uid`. */
export function assignUids<T extends { key: string }>(
  previous: AssignedUids,
  messages: T[],
  cursorUid: number,
): UidAssignment<T> {
  const uids = new Map<string, number>();
  let previousHighest = cursorUid;
  for (const [hash, uid] of previous) {
    previousHighest = Math.max(previousHighest, uid);
    if (uid > cursorUid) uids.set(hash, uid);
  }
  let highestUid = previousHighest;
  const withUids = messages.map((message) => {
    const hash = hashKey(message.key);
    const uid = previous.get(hash) || ++highestUid;
    uids.set(hash, uid);
    return { ...message, uid };
  });
  return { messages: withUids, uids, highestUid, hasNewUids: highestUid > previousHighest };
}

/**
 * The first 8 bytes of SHA-256, in base64. Among 100,000 names, two have the same hash in one of four thousand million
 * mailboxes.
 */
export function hashKey(key: string): string {
  return createHash("sha256").update(key).digest().subarray(0, HASH_BYTES).toString("base64");
}

/** Parses a cursor's state. The result is empty if another protocol wrote it. */
export function parseAssignedUids(state: string | null): AssignedUids {
  const uids = new Map<string, number>();
  if (state === null || !state.startsWith(FORMAT_PREFIX)) return uids;
  const bytes = Buffer.from(state.slice(FORMAT_PREFIX.length), "base64");
  for (let at = 0; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES) {
    uids.set(bytes.toString("base64", at, at + HASH_BYTES), bytes.readUInt32BE(at + HASH_BYTES));
  }
  return uids;
}

/** Serializes the numbers for a cursor's state. */
export function serializeAssignedUids(uids: AssignedUids): string {
  const bytes = Buffer.alloc(uids.size * ENTRY_BYTES);
  let at = 0;
  for (const [hash, uid] of uids) {
    bytes.write(hash, at, "base64");
    bytes.writeUInt32BE(uid, at + HASH_BYTES);
    at += ENTRY_BYTES;
  }
  return FORMAT_PREFIX + bytes.toString("base64");
}
