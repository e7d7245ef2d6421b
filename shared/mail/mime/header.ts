/**
 * A small tolerant parser of header blocks. It accepts any bytes, keeps the order and never throws. It is used for the
 * message, its parts and nested messages.
 */
import { isUtf8 } from "node:buffer";
import { decodeUnlabelled } from "./charset/decode.ts";
import { sanitizeText } from "./charset/sanitize.ts";
import { MIME_LIMITS, type LimitedReasons, limitedReasons } from "./limits.ts";
import { readPlainHeader } from "./plain-header.ts";
import { encodeRawWords } from "./values/words.ts";

/**
 * One header field: name in lower case, value unfolded (RFC 5322 section 2.2.3), encoded words not decoded. `raw` is
 * set if the value has bytes in a charset that the field does not name.
 */
export type Field = { name: string; value: string; raw?: Buffer };

export type HeaderBlock = { fields: Field[]; /** Where the body begins. */ body: number };

type HeaderLimits = { bytes: number; fields: number; fieldBytes: number };
type Range = { from: number; to: number };
/**
 * A field that is not complete: its value so far. It has several pieces if lines without leading white space belong to
 * it.
 */
type OpenField = { name: string; pieces: string[] };

/** Bytes that no field name contains. */
const NO_NAME = Array.from(
  { length: 256 },
  (_, byte) => (byte > 0 && byte < 32) || '"<>{}()[],;=@\\'.includes(String.fromCharCode(byte)),
);
const [LF, CR, SPACE, TAB, COLON, DASH] = [10, 13, 32, 9, 58, 45];
/** The bytes with which something else than a first field may begin: a byte order mark, blanks, an mbox line. */
const BEFORE_FIELD = Array.from({ length: 256 }, (_, byte) => "\u00EF \t\r\n>F\0".includes(String.fromCharCode(byte)));
/** How many lines without a field name a header may have. With more of them it is a text. */
const MAX_STRAY_LINES = 20;

/** Fields that a header may have after a line that is no field. Other names with a colon also occur in texts. */
const KNOWN_FIELD =
  /^(?:from|to|b?cc|subject|date|sender|reply-to|message-id|mime-version|in-reply-to|references|return-path|received|delivered-to|envelope-to|importance|priority|precedence|auto-submitted|user-agent|organization|errors-to|status|action|reporting-mta|arrival-date|last-attempt-date|remote-mta|(?:final|original)-recipient|diagnostic-code|disposition-notification-to|dkim-signature|domainkey-signature|authentication-results|(?:content|resent|list|thread|arc|x)-[a-z0-9-]+)$/;
/** Fields with a grammar. A line that does not fit the grammar does not continue them. */
const STRUCTURED_FIELD =
  /^(?:from|to|b?cc|sender|reply-to|date|message-id|in-reply-to|references|return-path|mime-version|content-.*|resent-.*|status|action|(?:final|original)-recipient)$/;
const ADDRESS_FIELD = /^(?:from|to|b?cc|sender|reply-to|resent-.*)$/;

/**
 * Parses the header that starts at `from`. It ends at the first empty line, or before a line that cannot be a field if
 * no known field follows (then that line belongs to the body). Byte order marks, empty lines and mbox separators before
 * it are skipped. A line without a field name belongs to the field above it if it fits; otherwise it is left out.
 * `limited` names what is left out or over the limits.
 */
export function readHeader(bytes: Buffer, range: Range, limits: HeaderLimits, limited: LimitedReasons): HeaderBlock {
  const first = firstField(bytes, range);
  const plain = readPlainHeader(bytes, { from: first, to: range.to }, limits.fields);
  if (plain && plain.body - first <= limits.bytes) {
    const context = { limits, limited, isAscii: plain.isAscii };
    return { fields: plain.fields.map(({ name, text }) => closeField(name, text, context)), body: plain.body };
  }
  const open: OpenField[] = [];
  let [at, readBytes, stray, lastKnown] = [first, 0, 0, -1];
  while (at < range.to && !isBlankLine(bytes, at, range.to)) {
    const colon = findColon(bytes, at, range.to);
    const next = colon < 0 ? lineEnd(bytes, at, range.to) : fieldEnd(bytes, at, range.to);
    if (colon >= 0) {
      if (open.length >= limits.fields) limited.add(`header fields after the first ${limits.fields} left out`);
      else if (readBytes > limits.bytes) limited.add(`header fields after ${limits.bytes} bytes left out`);
      else {
        const field = bytes.toString("latin1", at, next);
        open.push({ name: toName(field.slice(0, colon - at)), pieces: [field.slice(colon - at + 1)] });
      }
      readBytes += Math.min(next - at, limits.fieldBytes);
    } else if (!isMboxLine(bytes, at, next)) {
      const field = open.at(-1);
      const line = bytes.toString("latin1", at, next);
      if (field && continuesField(field, line.trimEnd())) field.pieces.push(line);
      else {
        if (lastKnown < 0) lastKnown = isDelimiter(bytes, at) ? 0 : lastKnownField(bytes, { from: next, to: range.to });
        if (lastKnown < next || ++stray > MAX_STRAY_LINES)
          return { fields: closeFields(open, limits, limited), body: at };
        if (field && !STRUCTURED_FIELD.test(field.name)) field.pieces.push(line);
        else limited.add("lines of the header that are no fields left out");
      }
    }
    at = next;
  }
  return { fields: closeFields(open, limits, limited), body: lineEnd(bytes, at, range.to) };
}

function closeFields(open: OpenField[], limits: HeaderLimits, limited: LimitedReasons): Field[] {
  const context = { limits, limited, isAscii: false };
  return open.map(({ name, pieces }) => closeField(name, pieces.join(""), context));
}

/** `whole` has one character per byte. With `isAscii` it is known to have only ASCII. */
function closeField(
  name: string,
  whole: string,
  { limits, limited, isAscii }: { limits: HeaderLimits; limited: LimitedReasons; isAscii: boolean },
): Field {
  const isLong = whole.length > limits.fieldBytes;
  if (isLong) limited.add(`header fields cut after ${limits.fieldBytes} bytes`);
  const text = isLong ? whole.slice(0, limits.fieldBytes) : whole;
  if (isAscii || !/[^\t\r\n -~]/.test(text)) return { name, value: unfold(text.trim()) };
  const value = decodeValue(text);
  const raw = Buffer.from(text, "latin1");
  return isUtf8(raw) ? { name, value } : { name, value, raw };
}

/** The same fields. Raw bytes that are not UTF-8 are decoded by this charset. */
export function decodeRawFields(fields: Field[], charset: string | undefined): Field[] {
  if (charset === undefined) return fields;
  return fields.map((field) =>
    field.raw ? { ...field, value: decodeValue(field.raw.toString("latin1"), charset) } : field,
  );
}

// Unfolding removes the line break and keeps the white space. A lone CR or LF is replaced.
function unfold(text: string): string {
  return text.includes("\n") || text.includes("\r")
    ? text.replace(/\r?\n(?=[ \t])/g, "").replace(/[\r\n]+/g, " ")
    : text;
}

/** Decodes a value with bytes beyond ASCII, which is given as one character per byte. */
function decodeValue(text: string, charset?: string): string {
  const unfolded = unfold(text.replace(/\r?\n$/, "").replaceAll("\0", ""));
  return sanitizeText(decodeUnlabelled(Buffer.from(encodeRawWords(unfolded), "latin1"), charset)).trim();
}

// `text` has one character per byte.
function toName(text: string): string {
  const name = text.trim().toLowerCase();
  if (/^[!-~]*$/.test(name)) return name;
  return sanitizeText(decodeUnlabelled(Buffer.from(text, "latin1")))
    .trim()
    .toLowerCase();
}

/**
 * The start of the first field. Leading empty lines mean that there is no header, unless a typical first field follows
 * them.
 */
function firstField(bytes: Buffer, { from, to }: Range): number {
  if (!BEFORE_FIELD[bytes[from] ?? 0]) return from;
  let at = bytes.toString("latin1", from, from + 3) === "\u00EF\u00BB\u00BF" ? from + 3 : from;
  let indented = at;
  while (bytes[indented] === SPACE || bytes[indented] === TAB) indented++;
  if (indented > at && isKnownField(bytes, indented, to)) return indented;
  if (/^>?From /.test(bytes.toString("latin1", at, at + 6))) at = lineEnd(bytes, at, to);
  let first = at;
  while (first < to && isBlankLine(bytes, first, to)) first = lineEnd(bytes, first, to);
  if (first === at) return at;
  if (isMboxLine(bytes, first, lineEnd(bytes, first, to))) return lineEnd(bytes, first, to);
  return isKnownField(bytes, first, to) ? first : at;
}

function isKnownField(bytes: Buffer, at: number, to: number): boolean {
  const colon = findColon(bytes, at, to);
  return colon >= 0 && KNOWN_FIELD.test(toName(bytes.toString("latin1", at, colon)));
}

/** The start of the last known field before the next empty line or delimiter; 0 if there is none. */
function lastKnownField(bytes: Buffer, { from, to }: Range): number {
  let last = 0;
  for (let at = from; at < to && !isBlankLine(bytes, at, to) && !isDelimiter(bytes, at); at = lineEnd(bytes, at, to))
    if (isKnownField(bytes, at, to)) last = at;
  return last;
}

const isDelimiter = (bytes: Buffer, at: number) => bytes[at] === DASH && bytes[at + 1] === DASH;

/** True if a line without leading white space continues the value above it: a list, parameters, a quoted string. */
function continuesField({ name, pieces }: OpenField, line: string): boolean {
  const above = pieces.at(-1)?.slice(-1000).trimEnd() ?? "";
  if (/^=\?[^?\s]+\?[bq]\?/i.test(line)) return above.endsWith("?=");
  if (ADDRESS_FIELD.test(name)) return above.endsWith(",") || /^<?[^\s<>@]{1,200}@/.test(line);
  if (name === "references" || name === "in-reply-to") return line.startsWith("<");
  if (!name.startsWith("content-")) return false;
  return above.endsWith("=") ? /^(?:"[^"]*"|[^\s;"]+)\s*(?:;|$)/.test(line) : /^[\w*-]{1,60}\s?=/.test(line);
}

// The separator that mbox files have before each message. Some programs add a field of their own before it.
function isMboxLine(bytes: Buffer, at: number, next: number): boolean {
  return /^>?From \S.{0,200}\d\d:\d\d/.test(bytes.toString("latin1", at, Math.min(next, at + 250)));
}

// The place of a field's colon; -1 if the line is no field. A name is visible ASCII without quotes and brackets.
// White space may follow it, even in a folded line (RFC 5322 section 4.5), and some names have 8-bit bytes. The colon
// of a URL does not count.
function findColon(bytes: Buffer, at: number, to: number): number {
  let spaces = false;
  for (let i = at; i < to; i++) {
    const byte = bytes[i] ?? 0;
    if (byte === COLON) return i > at && !isWebAddress(bytes, at, i) ? i : -1;
    const folded = byte === CR || byte === LF ? foldEnd(bytes, i) : 0;
    if (folded > 0) [spaces, i] = [true, folded];
    else if (byte === SPACE || byte === TAB) spaces = i > at;
    else if (NO_NAME[byte] || spaces) return -1;
    if (i === at && (byte === SPACE || byte === TAB)) return -1;
  }
  return -1;
}

// The start of the white space after a line break; 0 if there is none.
function foldEnd(bytes: Buffer, at: number): number {
  const next = bytes[at] === CR && bytes[at + 1] === LF ? at + 2 : at + 1;
  return bytes[next] === SPACE || bytes[next] === TAB ? next : 0;
}

function isWebAddress(bytes: Buffer, at: number, colon: number): boolean {
  return (
    bytes[colon + 1] === 47 && bytes[colon + 2] === 47 && /^(?:https?|ftp)$/i.test(bytes.toString("latin1", at, colon))
  );
}

function fieldEnd(bytes: Buffer, at: number, to: number): number {
  let next = lineEnd(bytes, at, to);
  while (next < to && (bytes[next] === SPACE || bytes[next] === TAB)) next = lineEnd(bytes, next, to);
  return next;
}

/** The start of the next line. */
export function lineEnd(bytes: Buffer, at: number, to: number): number {
  const lf = bytes.indexOf(LF, at);
  return lf < 0 || lf >= to ? to : lf + 1;
}

/** True if the line at `at` is empty. Some gateways write CR CR LF. */
export function isBlankLine(bytes: Buffer, at: number, to: number): boolean {
  let end = at;
  while (end < to && bytes[end] === CR) end++;
  return end >= to ? end > at : bytes[end] === LF;
}

/** True if a header has a field that is typical of messages. A text with colons in its lines has none. */
export function isMessageHeader(fields: Field[]): boolean {
  return fields.some(({ name }) => KNOWN_FIELD.test(name));
}

/** The first value of a field. Undefined if the message has none. */
export function fieldValue(fields: Field[], name: string): string | undefined {
  return fields.find((field) => field.name === name)?.value;
}

/** The header fields of a nested message, within the limits of a part. */
export function readNestedHeader(decoded: Buffer): Field[] {
  const limits = {
    bytes: MIME_LIMITS.partHeaderBytes,
    fields: MIME_LIMITS.fields,
    fieldBytes: MIME_LIMITS.partFieldBytes,
  };
  return readHeader(decoded, { from: 0, to: decoded.length }, limits, limitedReasons()).fields;
}
