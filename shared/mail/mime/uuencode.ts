/**
 * uuencode (POSIX.1): as the transfer encoding of a part, and for files inside a text, as before MIME. The lines of a
 * file are decoded into one buffer, because a message may have millions of them.
 */
import { decodedLength, decodeUnits } from "./base64.ts";
import { lineEnd } from "./header.ts";

/** A file from a text. Its name is empty if it had none. */
export type EncodedFile = { name: string; content: Buffer };

/** A file from its `begin` line at `from` up to `to`, with encoded lines from `first` to `end`, for at most `size` bytes. */
type FoundFile = { name: string; base64: boolean; from: number; to: number; first: number; end: number; size: number };

const BEGIN = /^begin(?:-base64)? [0-7]{3,4}(?: (.*))?$/;
const BASE64_LINE = /^[A-Za-z0-9+/]*={0,2}$/;
const MAX_FILES = 500;
/**
 * Blanks at the ends of lines may have been lost on the way. What has lost more of them is no file: it could unpack to
 * twenty times its size.
 */
const MAX_LOST = 1024 * 1024;
const [LF, CR, BLANK, LAST_LETTER] = [10, 13, 32, 96];

/**
 * Removes the files from a text: each from its `begin` line to its `end`. If one of these is missing, or a line between
 * them is not encoded, the text stays as it is.
 */
export function takeFiles(text: Buffer): { text: Buffer; files: EncodedFile[] } {
  const files: EncodedFile[] = [];
  const kept: Buffer[] = [];
  let at = 0;
  for (const file of findFiles(text)) {
    kept.push(text.subarray(at, file.from));
    files.push({ name: file.name, content: decodeFile(text, file) });
    at = file.to;
    if (files.length === MAX_FILES) break;
  }
  return { text: files.length > 0 ? Buffer.concat([...kept, text.subarray(at)]) : text, files };
}

/** Decodes a part that is encoded as a whole. If that fails, the bytes come back unchanged. */
export function decodeUuencode(bytes: Buffer): Buffer {
  for (const file of findFiles(bytes)) return decodeFile(bytes, file);
  return bytes;
}

/** The name in the `begin` line of an encoded part. */
export function uuencodedName(bytes: Buffer): string | undefined {
  for (const { name } of findFiles(bytes)) return name;
  return undefined;
}

function* findFiles(bytes: Buffer): Generator<FoundFile, void, undefined> {
  const isFirst = bytes.toString("latin1", 0, 5) === "begin";
  let from: number | undefined = isFirst ? 0 : nextBegin(bytes, 0);
  while (from !== undefined) {
    const file = fileAt(bytes, from);
    if (file) yield file;
    // The line break that ends a file may be the one before the next file.
    from = nextBegin(bytes, file ? file.to - 1 : from);
  }
}

/** Where the next line starts that may begin a file. */
function nextBegin(bytes: Buffer, at: number): number | undefined {
  const found = bytes.indexOf("\nbegin", at);
  return found < 0 ? undefined : found + 1;
}

/** The file that begins in this line. Undefined if it has no end, or a line of it is not encoded. */
function fileAt(bytes: Buffer, from: number): FoundFile | undefined {
  const first = lineEnd(bytes, from, bytes.length);
  const words = bytes.toString("latin1", from, textEnd(bytes, from, first));
  const begin = BEGIN.exec(words);
  if (!begin) return undefined;
  const base64 = words.startsWith("begin-base64");
  let [size, lost] = [0, 0];
  for (let at = first; at < bytes.length;) {
    const next = lineEnd(bytes, at, bytes.length);
    const end = textEnd(bytes, at, next);
    if (isEnd(bytes, at, end))
      return at === first ? undefined : { name: begin[1]?.trim() ?? "", base64, from, to: next, first, end: at, size };
    const length = base64 ? lengthOfBase64(bytes, at, end) : lengthOfLine(bytes, at, end);
    if (length === undefined) return undefined;
    size += length;
    lost += Math.max(0, length - (end - at));
    if (lost > MAX_LOST) return undefined;
    at = next;
  }
  return undefined;
}

function decodeFile(bytes: Buffer, { base64, first, end, size }: FoundFile): Buffer {
  const content = Buffer.alloc(size);
  let length = 0;
  for (let at = first; at < end;) {
    const next = lineEnd(bytes, at, end);
    const range = { from: at, end: textEnd(bytes, at, next) };
    length = base64 ? decodeUnits(bytes, range, content, length) : decodeLine(bytes, range, content, length);
    at = next;
  }
  return content.subarray(0, length);
}

// Without the line break at its end.
function textEnd(bytes: Buffer, from: number, next: number): number {
  let end = next;
  while (end > from && (bytes[end - 1] === LF || bytes[end - 1] === CR)) end--;
  return end;
}

function isEnd(bytes: Buffer, from: number, end: number): boolean {
  const text = end - from > 4 ? "" : bytes.toString("latin1", from, end);
  return text === "end" || text === "====";
}

/** The most bytes that a line of base64 stands for. Undefined if it is none. */
function lengthOfBase64(bytes: Buffer, from: number, end: number): number | undefined {
  return BASE64_LINE.test(bytes.toString("latin1", from, end)) ? decodedLength(end - from) : undefined;
}

/** The bytes that a line stands for: its first letter says it. Undefined if the line is not encoded. */
function lengthOfLine(bytes: Buffer, from: number, end: number): number | undefined {
  if (end === from) return 0;
  const length = sixBits(bytes, from, end);
  if (end - from - 1 > Math.ceil(length / 3) * 4 + 4) return undefined;
  for (let at = from; at < end; at++) {
    const byte = bytes[at] ?? 0;
    if (byte < BLANK || byte > LAST_LETTER) return undefined;
  }
  return length;
}

function decodeLine(
  bytes: Buffer,
  { from, end }: { from: number; end: number },
  content: Buffer,
  start: number,
): number {
  const stop = start + (end === from ? 0 : sixBits(bytes, from, end));
  for (let at = from + 1, to = start; to < stop; at += 4, to += 3) {
    const [second, third] = [sixBits(bytes, at + 1, end), sixBits(bytes, at + 2, end)];
    content[to] = (sixBits(bytes, at, end) << 2) | (second >> 4);
    if (to + 1 < stop) content[to + 1] = (second << 4) | (third >> 2);
    if (to + 2 < stop) content[to + 2] = (third << 6) | sixBits(bytes, at + 3, end);
  }
  return stop;
}

/** The value of a letter. Behind the end of a line there were blanks. */
function sixBits(bytes: Buffer, at: number, end: number): number {
  return at < end ? ((bytes[at] ?? BLANK) - BLANK) & 63 : 0;
}
