/**
 * Decides when two copies are the same message: a fingerprint of the content, without what servers write into it, and
 * the delivery id derived from it. Neither needs any stored state.
 */
import { createHash, type Hash } from "node:crypto";
import { setImmediate } from "node:timers/promises";

/** Header fields that are not part of the content. Servers write them on the way, or when they store the copy. */
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
  "x-delivery-id", // Dovecot's mbox: a random id of this copy
  "content-length", // mbox stores: length with their line ends
  "keywords", // Exchange writes the categories of this copy into it (MS-OXCMAIL), ours among them
  "x-message-flag", // Exchange: the flag of this copy
]);

/** Prefixes of such fields: Thunderbird's folder state, Gmail's labels and ids, notes between Exchange servers. */
const TRACE_PREFIXES = ["x-mozilla-", "x-gm-", "x-gmail-", "x-ms-exchange-organization-"];

// No trace field has a longer name, so a longer first line without a colon need not be searched.
const NAME_BYTES = 256;
const CHUNK_BYTES = 65536;
/** So many bytes of a body take a few milliseconds. */
const TURN_BYTES = 1024 * 1024;
const [LF, CR, COLON] = [10, 13, 58];

/**
 * The first 16 bytes, in hex, of SHA-256 over the canonical message: line ends as LF, trace fields left out, header
 * names in lower case, empty lines at the end dropped. With `ignoresBoundaries` also the boundaries between parts are left
 * out, for servers that build a message anew at each download. It takes linear time and no copies of the message (about
 * 0.3 s for 80 MB).
 */
export function fingerprint(raw: Uint8Array, options: FingerprintOptions = {}): string {
  const steps = fingerprintSteps(raw, options);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

type FingerprintOptions = { ignoresBoundaries?: boolean };

/** The same. The event loop does other work between the parts of a large message. */
export async function fingerprintInTurns(raw: Uint8Array, options: FingerprintOptions = {}): Promise<string> {
  const steps = fingerprintSteps(raw, options);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    await setImmediate();
  }
}

function* fingerprintSteps(
  raw: Uint8Array,
  { ignoresBoundaries = false }: FingerprintOptions,
): Generator<void, string, void> {
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  const end = findContentEnd(bytes);
  const content = canonicalHash(ignoresBoundaries ? findBoundaries(bytes) : [], bytes.length);
  let at = hashHeader(bytes, end, content);
  content.write("\n");
  while (at < end) {
    // A part ends with a line, so that neither a line end nor a boundary is cut.
    const lf = end - at > TURN_BYTES ? bytes.indexOf(LF, at + TURN_BYTES) : -1;
    const next = lf < 0 || lf >= end ? end : lf + 1;
    content.add(bytes, at, next);
    at = next;
    if (at < end) yield;
  }
  return content.digest().subarray(0, 16).toString("hex");
}

/**
 * The id of a delivery (`msg_` and 26 characters of a-z 2-7). It is always the same for the same content in the same
 * mailbox. `duplicateAt` distinguishes two messages of equal content in one folder: it is where the second one lies.
 */
export function deliveryId(
  mailbox: string,
  contentFingerprint: string,
  duplicateAt?: { folder: string; epoch: string; uid: number },
): string {
  const about = [
    mailbox,
    contentFingerprint,
    ...(duplicateAt ? [duplicateAt.folder, duplicateAt.epoch, duplicateAt.uid] : []),
  ];
  const hash = createHash("sha256").update(JSON.stringify(about)).digest();
  return `msg_${base32(hash, 26)}`;
}

function hashHeader(bytes: Buffer, end: number, content: CanonicalHash): number {
  let at = 0;
  let included = true;
  while (at < end) {
    const lf = bytes.indexOf(LF, at);
    const next = lf < 0 || lf >= end ? end : lf + 1;
    const first = bytes[at];
    if (first === LF || (first === CR && bytes[at + 1] === LF)) return next;
    const folded = first === 32 || first === 9;
    if (!folded) included = hashFieldStart(bytes, at, next, content);
    else if (included) content.add(bytes, at, next);
    at = next;
  }
  return end;
}

// Hashes a field's first line unless it is a trace field. Returns whether its folded lines count too.
function hashFieldStart(bytes: Buffer, at: number, next: number, content: CanonicalHash): boolean {
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

function findContentEnd(bytes: Buffer): number {
  let end = bytes.length;
  while (end > 0 && (bytes[end - 1] === LF || bytes[end - 1] === CR)) end--;
  return end;
}

type Range = { start: number; end: number };

/** A shorter boundary might be a word of the text, and no server generates one. RFC 2046 allows 70 characters. */
const BOUNDARY = /^"?([^"\s;]{10,70})["\s;]/;
const MAX_BOUNDARIES = 100;

/** Where the boundaries of multiparts stand, in the order of their places: in headers, and between the parts. */
function findBoundaries(bytes: Buffer): Range[] {
  const boundaries = new Set<string>();
  const name = "oundary=";
  for (let at = bytes.indexOf(name); at >= 0; at = bytes.indexOf(name, at + 1)) {
    const start = at + name.length;
    const [, boundary] = BOUNDARY.exec(`${bytes.toString("latin1", start, start + 80)} `) ?? [];
    if (boundary !== undefined) boundaries.add(boundary);
    if (boundaries.size === MAX_BOUNDARIES) break;
  }
  const ranges: Range[] = [];
  for (const boundary of boundaries) {
    const word = Buffer.from(boundary, "latin1");
    for (let at = bytes.indexOf(word); at >= 0; at = bytes.indexOf(word, at + word.length))
      ranges.push({ start: at, end: at + word.length });
  }
  return ranges.toSorted((a, b) => a.start - b.start);
}

type CanonicalHash = {
  write: (text: string) => void;
  /** Adds a range with CRLF as LF, behind all that was added before. */
  add: (bytes: Buffer, from: number, to: number) => void;
  digest: () => Buffer;
};

// The bytes between two line ends are copied as a whole. So no string is made, of which a large message would leave several copies.
function canonicalHash(leftOut: Range[], length: number): CanonicalHash {
  const hash: Hash = createHash("sha256");
  const buffered = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, length + NAME_BYTES));
  let used = 0;
  const flush = () => {
    hash.update(buffered.subarray(0, used));
    used = 0;
  };
  const copy = (bytes: Buffer, from: number, to: number) => {
    for (let at = from; at < to;) {
      const copied = bytes.copy(buffered, used, at, to);
      at += copied;
      used += copied;
      if (used === buffered.length) flush();
    }
  };
  const addWhole = (bytes: Buffer, from: number, to: number) => {
    let [at, searched] = [from, from];
    while (at < to) {
      const lf = bytes.indexOf(LF, searched);
      const end = lf < 0 || lf >= to ? to : lf;
      searched = end + 1;
      // A LF without CR, and a CR without LF, are copied with what is around them.
      if (end < to && (end === at || bytes[end - 1] !== CR)) continue;
      copy(bytes, at, end < to ? end - 1 : to);
      at = end;
    }
  };
  let next = 0;
  return {
    write: (text) => copy(Buffer.from(text, "latin1"), 0, text.length),
    add: (bytes, from, to) => {
      let at = from;
      for (let range = leftOut[next]; range && range.start < to; range = leftOut[++next]) {
        addWhole(bytes, at, Math.max(at, range.start));
        at = Math.max(at, range.end);
      }
      addWhole(bytes, at, to);
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
