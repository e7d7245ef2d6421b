/**
 * Numbers of ours for the messages of protocols that have none that ascend (POP3, EWS). A number must never mean two messages,
 * or the second would be taken for done; and a message must never have two, or it would be taken for another message of the
 * same content, and delivered twice. So new numbers are kept before the first of their messages is handed over: by an arrival
 * without messages, whose cursor has their state and the `uid` (and `newest`) from before. A crash after that finds them again.
 */
import { createHash } from "node:crypto";

/** The numbers given, by a hash of the message's name: twelve bytes a message in a cursor's state. */
export type Known = ReadonlyMap<string, number>;

export type Numbering<T> = {
  /** The messages with their numbers, in the order given. */
  numbered: (T & { uid: number })[];
  /** What to keep from now on: the numbers of these messages, and of those gone that the cursor has not passed. */
  known: Known;
  /** The highest number there is: the cursor's when all is handed over. */
  top: number;
  /** Some number is new: it must be kept before its message is handed over. */
  fresh: boolean;
};

const FORM = "pop3-1:";
const HASH_BYTES = 8;
const ENTRY_BYTES = HASH_BYTES + 4;

/** Gives numbers to those of the messages that have none, upwards from all that were given; `passed` is the cursor's `uid`. */
export function numbering<T extends { key: string }>(known: Known, messages: T[], passed: number): Numbering<T> {
  const kept = new Map<string, number>();
  let before = passed;
  for (const [hash, uid] of known) {
    before = Math.max(before, uid);
    if (uid > passed) kept.set(hash, uid);
  }
  let top = before;
  const numbered = messages.map((message) => {
    const hash = hashOf(message.key);
    const uid = known.get(hash) ?? ++top;
    kept.set(hash, uid);
    return { ...message, uid };
  });
  return { numbered, known: kept, top, fresh: top > before };
}

/** The first 8 bytes of SHA-256, in base64: among 100,000 names two are alike once in four thousand million mailboxes. */
export function hashOf(key: string): string {
  return createHash("sha256").update(key).digest().subarray(0, HASH_BYTES).toString("base64");
}

/** A cursor's state read; nothing is known where it is of another protocol. */
export function readKnown(state: string | null): Known {
  const known = new Map<string, number>();
  if (state === null || !state.startsWith(FORM)) return known;
  const bytes = Buffer.from(state.slice(FORM.length), "base64");
  for (let at = 0; at + ENTRY_BYTES <= bytes.length; at += ENTRY_BYTES) {
    known.set(bytes.toString("base64", at, at + HASH_BYTES), bytes.readUInt32BE(at + HASH_BYTES));
  }
  return known;
}

/** The state to keep with a cursor. */
export function writtenKnown(known: Known): string {
  const bytes = Buffer.alloc(known.size * ENTRY_BYTES);
  let at = 0;
  for (const [hash, uid] of known) {
    bytes.write(hash, at, "base64");
    bytes.writeUInt32BE(uid, at + HASH_BYTES);
    at += ENTRY_BYTES;
  }
  return FORM + bytes.toString("base64");
}
