/**
 * What makes two copies of a message the same: a fingerprint over the content without what transports and stores write
 * into it, and the delivery id made of it. Neither needs any state.
 */
import { createHash, type Hash } from "node:crypto";

/** Header fields that are no part of the content: written on the way or by the store that holds the copy. */
const TRACE_FIELDS = new Set([
  "received", // RFC 5321: every hop adds one
  "return-path", // RFC 5321: final delivery writes it
  "delivered-to", // Postfix, qmail, Gmail: the mailbox of this copy
  "x-delivered-to", // Fastmail
  "x-original-to", // Postfix: the address before aliases
  "envelope-to", // Exim
  "x-envelope-to", // older Exim and sendmail set-ups
  "status", // mbox stores: flags
  "x-status", // mbox stores: flags
  "x-keywords", // mbox stores: labels
  "x-uid", // mbox stores: the uid of this copy
  "x-uidl", // POP3 servers: the same
  "x-imap", // UW IMAP: state of the folder
  "x-imapbase", // UW IMAP, Dovecot: UIDVALIDITY of the folder
  "content-length", // mbox stores: length with their line ends
  "keywords", // Exchange writes the categories of this copy into it (MS-OXCMAIL), ours among them
  "x-message-flag", // Exchange: the flag of this copy
]);

/** Families of such fields, by prefix: Thunderbird's folder state, Gmail's labels and ids, what Exchange servers tell each other. */
const TRACE_PREFIXES = ["x-mozilla-", "x-gm-", "x-gmail-", "x-ms-exchange-organization-"];

// No trace field has a longer name; a longer first line without a colon need not be searched for one.
const NAME_BYTES = 256;
const CHUNK = 65536;
const [LF, CR, COLON] = [10, 13, 58];

/**
 * The first 16 bytes, in hex, of SHA-256 over the canonical message: line ends as LF, trace fields left out, header names in
 * lower case, empty lines at the end dropped. Linear and without copies of the message (about 0.3 s for 80 MB).
 */
export function fingerprint(raw: Uint8Array): string {
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  const end = contentEnd(bytes);
  const content = canonicalHash();
  const body = hashHeader(bytes, end, content);
  content.write("\n");
  content.add(bytes, body, end);
  return content.digest().subarray(0, 16).toString("hex");
}

/**
 * The id of a delivery (`msg_` and 26 characters of a-z 2-7): the same for the same content in the same mailbox, wherever and
 * whenever it is met. `twinOf` tells apart two messages of equal content in one folder: where the second one lies.
 */
export function deliveryId(
  mailbox: string,
  print: string,
  twinOf?: { folder: string; epoch: string; uid: number },
): string {
  const about = [mailbox, print, ...(twinOf ? [twinOf.folder, twinOf.epoch, twinOf.uid] : [])];
  const hash = createHash("sha256").update(JSON.stringify(about)).digest();
  return `msg_${base32(hash, 26)}`;
}

function hashHeader(bytes: Buffer, end: number, content: CanonicalHash): number {
  let at = 0;
  let kept = true;
  while (at < end) {
    const lf = bytes.indexOf(LF, at);
    const next = lf < 0 || lf >= end ? end : lf + 1;
    const first = bytes[at];
    if (first === LF || (first === CR && bytes[at + 1] === LF)) return next;
    const folded = first === 32 || first === 9;
    if (!folded) kept = startField(bytes, at, next, content);
    else if (kept) content.add(bytes, at, next);
    at = next;
  }
  return end;
}

// Hashes a field's first line unless it is a trace field; says whether its folded lines count, too.
function startField(bytes: Buffer, at: number, next: number, content: CanonicalHash): boolean {
  const colon = bytes.subarray(at, Math.min(next, at + NAME_BYTES)).indexOf(COLON);
  if (colon < 0) {
    content.add(bytes, at, next);
    return true;
  }
  const name = bytes
    .toString("latin1", at, at + colon)
    .trim()
    .toLowerCase();
  if (TRACE_FIELDS.has(name) || TRACE_PREFIXES.some((prefix) => name.startsWith(prefix))) return false;
  content.write(name);
  content.add(bytes, at + colon, next);
  return true;
}

function contentEnd(bytes: Buffer): number {
  let end = bytes.length;
  while (end > 0 && (bytes[end - 1] === LF || bytes[end - 1] === CR)) end--;
  return end;
}

type CanonicalHash = {
  write: (text: string) => void;
  /** Adds a range with CRLF as LF. */
  add: (bytes: Buffer, from: number, to: number) => void;
  digest: () => Buffer;
};

// By way of strings of one byte per character: their search and copy are the runtime's own, many times as fast as a loop here.
function canonicalHash(): CanonicalHash {
  const hash: Hash = createHash("sha256");
  let waiting = "";
  const flush = () => {
    hash.update(waiting, "latin1");
    waiting = "";
  };
  return {
    write: (text) => void (waiting += text),
    add: (bytes, from, to) => {
      for (let at = from; at < to;) {
        const end = Math.min(at + CHUNK, to);
        // A CR at the end of a piece is left to the next one, where its LF is.
        const stop = end < to && bytes[end - 1] === CR ? end - 1 : end;
        waiting += bytes.toString("latin1", at, stop).replaceAll("\r\n", "\n");
        if (waiting.length >= CHUNK) flush();
        at = stop;
      }
    },
    digest: () => {
      flush();
      return hash.digest();
    },
  };
}

function base32(bytes: Buffer, length: number): string {
  const alphabet = "abcdefghijklmnopqrstuvwxyz234567";
  let [bits, value, text] = [0, 0, ""];
  for (const byte of bytes) {
    value = ((value << 8) | byte) & 0xfff;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += alphabet[(value >> bits) & 31];
    }
  }
  return text.slice(0, length);
}
