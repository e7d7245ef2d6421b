/**
 * What a POP3 cursor holds: which messages of the maildrop have which number of ours. Twelve bytes a message, only for those the
 * server still has.
 */
import { createHash } from "node:crypto";

/** Our numbers by a hash of the message's name. */
export type Known = ReadonlyMap<string, number>;

const FORM = "pop3-1:";
const HASH_BYTES = 8;
const ENTRY_BYTES = HASH_BYTES + 4;

/** The first 8 bytes of SHA-256, in base64: among 100,000 names two are alike once in four thousand million maildrops. */
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
