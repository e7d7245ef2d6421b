/**
 * A small tolerant reader of header blocks: takes any bytes, keeps the order and never throws. Used for the message itself, its
 * parts and the messages inside it.
 */
import { isUtf8 } from "node:buffer";
import type { Limited } from "./limits.ts";

/** One header field: name in lower case, value unfolded (RFC 5322 section 2.2.3) but not decoded. */
export type Field = { name: string; value: string };

export type HeaderBlock = { fields: Field[]; /** Where the body begins. */ body: number };

type HeaderLimits = { bytes: number; fields: number; fieldBytes: number };

const [LF, CR, SPACE, TAB, COLON] = [10, 13, 32, 9, 58];

/**
 * Reads the header that begins at `from`. It ends at the first empty line, or before the first line that can be no field (then
 * that line is already body, as other readers have it). What is over the limits is skipped and named in `limited`.
 */
export function readHeader(
  bytes: Buffer,
  range: { from: number; to: number },
  limits: HeaderLimits,
  limited: Limited,
): HeaderBlock {
  const fields: Field[] = [];
  let [at, kept] = [range.from, 0];
  // An mbox separator in front of the first field is no field.
  if (bytes.toString("latin1", at, at + 5) === "From ") at = lineEnd(bytes, at, range.to);
  while (at < range.to) {
    if (isBlank(bytes, at, range.to)) return { fields, body: lineEnd(bytes, at, range.to) };
    const colon = nameEnd(bytes, at, range.to);
    if (colon < 0) return { fields, body: at };
    const next = fieldEnd(bytes, at, range.to);
    if (fields.length >= limits.fields) limited.add(`header fields after the first ${limits.fields} left out`);
    else if (kept > limits.bytes) limited.add(`header fields after ${limits.bytes} bytes left out`);
    else fields.push(readField(bytes, { at, colon, next }, limits.fieldBytes, limited));
    kept += Math.min(next - at, limits.fieldBytes);
    at = next;
  }
  return { fields, body: range.to };
}

function readField(
  bytes: Buffer,
  { at, colon, next }: { at: number; colon: number; next: number },
  most: number,
  limited: Limited,
): Field {
  const name = clean(text(bytes.subarray(at, colon)))
    .trim()
    .toLowerCase();
  const cut = next - colon - 1 > most;
  if (cut) limited.add(`header fields cut after ${most} bytes`);
  const value = text(bytes.subarray(colon + 1, cut ? colon + 1 + most : next));
  // Unfolding takes the line break out and leaves the white space; a lone CR or LF must not survive as one.
  return { name, value: clean(value.replace(/\r?\n(?=[ \t])/g, "").replace(/[\r\n]+/g, " ")).trim() };
}

// Where the colon of a field is, or -1 when the line is none: names are visible ASCII, white space may follow them (RFC 5322
// section 4.5), and 8-bit names are met in the wild.
function nameEnd(bytes: Buffer, at: number, to: number): number {
  let spaces = false;
  for (let i = at; i < to; i++) {
    const byte = bytes[i] ?? 0;
    if (byte === COLON) return i > at ? i : -1;
    if (byte === SPACE || byte === TAB) spaces = i > at;
    else if (byte < SPACE || spaces) return -1;
    if (i === at && (byte === SPACE || byte === TAB)) return -1;
  }
  return -1;
}

function fieldEnd(bytes: Buffer, at: number, to: number): number {
  let next = lineEnd(bytes, at, to);
  while (next < to && (bytes[next] === SPACE || bytes[next] === TAB)) next = lineEnd(bytes, next, to);
  return next;
}

/** Where the line after the one at `at` begins. */
export function lineEnd(bytes: Buffer, at: number, to: number): number {
  const lf = bytes.indexOf(LF, at);
  return lf < 0 || lf >= to ? to : lf + 1;
}

/** Whether the line at `at` is empty. */
export function isBlank(bytes: Buffer, at: number, to: number): boolean {
  return bytes[at] === LF || (bytes[at] === CR && (at + 1 >= to || bytes[at + 1] === LF));
}

/** Bytes as text: UTF-8 where they are, else windows-1252, which every byte sequence is. */
export function text(bytes: Buffer): string {
  return isUtf8(bytes) ? bytes.toString("utf8") : new TextDecoder("windows-1252").decode(bytes);
}

/** Text that every consumer can store: without NUL, with lone surrogates replaced. */
export function clean(value: string): string {
  return value.replaceAll("\0", "").toWellFormed();
}

/** The first value of a field, undefined when the message has none. */
export function valueOf(fields: Field[], name: string): string | undefined {
  return fields.find((field) => field.name === name)?.value;
}
