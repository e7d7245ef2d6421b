/**
 * Decodes bytes to text. The bytes count before the label. Valid UTF-8 is UTF-8 if the label is unknown, missing, or
 * one that programs write by default. Text that is mostly UTF-8 keeps its letters around a broken byte.
 */
import { isAscii, isUtf8 } from "node:buffer";
import iconv from "iconv-lite";
import { type Charset, findCharset } from "./labels.ts";
import { splitHz, splitIso2022 } from "./iso-2022.ts";
import { textPieces } from "./text-pieces.ts";

// prettier-ignore
const NATIVE = new Map<string, TextDecoder>(([
  "utf-8", "utf-16le", "utf-16be", "gb18030", "windows-1250", "windows-1251", "windows-1252", "windows-1253", "windows-1254",
  "windows-1255", "windows-1256", "windows-1257", "windows-1258", "windows-874", "iso-8859-2", "iso-8859-3", "iso-8859-4",
  "iso-8859-5", "iso-8859-6", "iso-8859-7", "iso-8859-8", "iso-8859-10", "iso-8859-13", "iso-8859-14", "iso-8859-15",
  "iso-8859-16", "koi8-r", "koi8-u", "ibm866", "macintosh", "x-mac-cyrillic",
] as const).map((name) => [name, new TextDecoder(name)]));

const ESC = 0x1b;
/** Text in a single-byte or multi-byte charset may by chance contain fewer valid UTF-8 characters than this. */
const SURE_UTF8 = { single: 3, multi: 6 };

/**
 * Decodes bytes by the sender's label; undefined means none. `fallback` is the label of a charset that the message uses
 * elsewhere. It counts if no known label is given and the bytes are not UTF-8. Never throws.
 */
export function decodeCharset(bytes: Buffer, label: string | undefined, fallback?: string): string {
  const charset = label === undefined ? undefined : findCharset(label);
  if (!charset || charset.kind === "ascii") return decodeUnlabelled(bytes, fallback);
  if (charset.kind === "utf8") return isUtf8(bytes) ? native("utf-8", bytes) : decodeBrokenUtf8(bytes, fallback);
  if (isAscii(bytes) || !isUtf8(bytes)) return decodeAs(bytes, charset);
  if (isSurelyUtf8(bytes, charset)) return native("utf-8", bytes);
  const text = decodeAs(bytes, charset);
  return charset.kind !== "single" && text.includes("\uFFFD") ? native("utf-8", bytes) : text;
}

/**
 * Decodes bytes without a label: as UTF-8 if they are valid, else by the fallback, else as windows-1252, which accepts
 * any bytes.
 */
export function decodeUnlabelled(bytes: Buffer, fallback?: string): string {
  if (bytes.includes(ESC) && isAscii(bytes)) return decodeRuns(bytes, splitIso2022);
  if (isUtf8(bytes)) return native("utf-8", bytes);
  const marked = decodeByMark(bytes);
  return marked ?? decodeBrokenUtf8(bytes, fallback);
}

/** True if the label names a known charset other than ASCII and UTF-8. */
export function isTellingLabel(label: string): boolean {
  const charset = findCharset(label);
  return charset !== undefined && charset.kind !== "ascii" && charset.kind !== "utf8";
}

/** True if the label does not help with bytes beyond ASCII: it is missing or unknown, or it names ASCII. */
export function isEmptyLabel(label: string | undefined): boolean {
  const charset = label === undefined ? undefined : findCharset(label);
  return charset === undefined || charset.kind === "ascii";
}

function decodeBrokenUtf8(bytes: Buffer, fallback: string | undefined): string {
  if (isMostlyUtf8(bytes)) return native("utf-8", bytes);
  for (const charset of fallback === undefined ? [] : eightBitCharsets(fallback)) {
    const text = decodeAs(bytes, charset);
    if (!text.includes("\uFFFD")) return text;
  }
  return native("windows-1252", bytes);
}

/**
 * The charsets that bytes beyond ASCII may be in, in a message that uses this one elsewhere. A seven-bit charset has
 * eight-bit relatives.
 */
function eightBitCharsets(label: string): Charset[] {
  const charset = findCharset(label);
  if (charset?.kind === "hz") return [{ kind: "multi", decoder: "native", name: "gb18030" }];
  if (charset?.kind === "iso2022")
    return (SEVEN_BIT_RELATIVES.find(({ name }) => name.test(label))?.sets ?? []).flatMap(
      (name) => findCharset(name) ?? [],
    );
  if (!charset || charset.kind === "ascii" || charset.kind === "utf8") return [];
  return charset.kind === "multi" && charset.name.startsWith("utf-7") ? [] : [charset];
}

const SEVEN_BIT_RELATIVES = [
  { name: /jp/i, sets: ["euc-jp", "shift_jis"] },
  { name: /kr/i, sets: ["euc-kr"] },
  { name: /cn/i, sets: ["gb18030"] },
];

function decodeByMark(bytes: Buffer): string | undefined {
  if (bytes[0] === 0xff && bytes[1] === 0xfe) return native("utf-16le", bytes);
  if (bytes[0] === 0xfe && bytes[1] === 0xff) return native("utf-16be", bytes);
  return undefined;
}

function decodeAs(bytes: Buffer, charset: Charset): string {
  switch (charset.kind) {
    case "single":
    case "multi":
      return charset.decoder === "native" ? native(charset.name, bytes) : decodeByIconv(bytes, charset.name);
    case "iso2022":
      return decodeRuns(bytes, splitIso2022);
    case "hz":
      return decodeRuns(bytes, splitHz);
    case "utf16":
    case "utf16le":
    case "utf16be":
      return decodeUtf16(bytes, charset.kind);
    default:
      return decodeUnlabelled(bytes);
  }
}

/** More bytes than this are decoded in pieces. */
const PIECE_BYTES = 256 * 1024;

// Some of these decoders add each character to a string. The runtime keeps such a string as a tree until somebody looks
// into it, and the tree of a long text has hundreds of megabytes.
function decodeByIconv(bytes: Buffer, name: string): string {
  if (bytes.length <= PIECE_BYTES) return iconv.decode(bytes, name);
  const decoder = iconv.getDecoder(name);
  const text = textPieces();
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    const piece = decoder.write(bytes.subarray(at, at + PIECE_BYTES));
    // This look makes one string of it.
    piece.includes("\0");
    text.add(piece);
  }
  text.add(decoder.end() ?? "");
  return text.text();
}

function decodeRuns(bytes: Buffer, split: typeof splitIso2022): string {
  const text = textPieces();
  split(bytes, (name, run) => text.add(name === "gb18030" ? native(name, run) : iconv.decode(run, name)));
  return text.text();
}

// Without a byte order mark, the zero bytes of blanks and line breaks show the byte order. Single-byte text has no
// zero bytes.
function decodeUtf16(bytes: Buffer, kind: "utf16" | "utf16le" | "utf16be"): string {
  const marked = decodeByMark(bytes);
  if (marked !== undefined) return marked;
  const sample = bytes.subarray(0, 4096);
  let [even, odd] = [0, 0];
  for (let at = 0; at < sample.length; at++) {
    if (sample[at] !== 0) continue;
    if (at % 2 === 0) even++;
    else odd++;
  }
  if (isMostlyAscii(sample) || (even === 0 && odd === 0 && isUtf8(bytes))) return decodeUnlabelled(bytes);
  if (even > 2 * odd) return native("utf-16be", bytes);
  if (odd > 2 * even) return native("utf-16le", bytes);
  return native(kind === "utf16be" ? "utf-16be" : "utf-16le", bytes);
}

/** True if nearly all bytes are letters and signs of ASCII. In UTF-16, every second byte of such text is zero. */
function isMostlyAscii(bytes: Buffer): boolean {
  const signs = bytes.reduce((count, byte) => count + (byte >= 32 && byte < 127 ? 1 : 0), 0);
  return signs > bytes.length * 0.85;
}

function native(name: string, bytes: Buffer): string {
  return NATIVE.get(name)?.decode(bytes) ?? bytes.toString("latin1");
}

/**
 * True if valid UTF-8 under the label of another charset is no coincidence. Seven-bit charsets have no bytes beyond
 * ASCII at all.
 */
function isSurelyUtf8(bytes: Buffer, charset: Charset): boolean {
  if (charset.kind === "iso2022" || charset.kind === "hz") return true;
  if (charset.kind === "multi") {
    if (charset.name.startsWith("utf-7")) return true;
    return countUtf8(bytes, SURE_UTF8.multi).characters >= SURE_UTF8.multi;
  }
  if (charset.kind !== "single" || charset.thai) return false;
  return charset.western || countUtf8(bytes, SURE_UTF8.single).characters >= SURE_UTF8.single;
}

/** True if there are more whole UTF-8 characters beyond ASCII than bytes that fit into none. */
function isMostlyUtf8(bytes: Buffer): boolean {
  const { characters, broken } = countUtf8(bytes, Infinity);
  return characters > broken;
}

// A character cut off by the end of the bytes does not count as broken.
function countUtf8(bytes: Buffer, most: number): { characters: number; broken: number } {
  let [characters, broken, at] = [0, 0, 0];
  while (at < bytes.length && characters < most) {
    const length = utf8Length(bytes[at] ?? 0);
    let end = at + 1;
    while (end < at + length && isContinuation(bytes[end])) end++;
    if (length > 1 && end === at + length) characters++;
    else if (length !== 1 && end < bytes.length) broken++;
    at = end;
  }
  return { characters, broken };
}

/** The length of the UTF-8 character that starts with this byte; 0 if none does. */
function utf8Length(byte: number): number {
  if (byte < 0x80) return 1;
  if (byte < 0xc2 || byte > 0xf4) return 0;
  return byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}

function isContinuation(byte: number | undefined): boolean {
  return byte !== undefined && (byte & 0xc0) === 0x80;
}
