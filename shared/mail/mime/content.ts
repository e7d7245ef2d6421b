/**
 * Reads the content of a message: its text, its HTML and its attachments, whatever the names and encodings of its parts
 * are.
 */
import { isUtf8 } from "node:buffer";
import type { ParsedMessage } from "../../contract/received.ts";
import type { CalendarFile } from "./calendar/invitations.ts";
import { decodeTransferEncoding, isEncodedFile, textBehindBase64 } from "./body.ts";
import { decodeCharset, isTellingLabel, isEmptyLabel } from "./charset/decode.ts";
import { textPieces } from "./charset/text-pieces.ts";
import { sanitizeText } from "./charset/sanitize.ts";
import { cleanName, readDisposition, readFilename } from "./files.ts";
import { joinFlowed } from "./flowed.ts";
import { fieldValue } from "./header.ts";
import { htmlToText, textToHtml } from "./html-text.ts";
import { findLetter, type Piece } from "./letter.ts";
import { attachmentsLeftOut, MIME_LIMITS, type LimitedReasons } from "./limits.ts";
import { leaves, type Part } from "./tree.ts";
import { type EncodedFile, takeFiles } from "./uuencode.ts";

type Attachment = ParsedMessage["attachments"][number];
export type ContentLimits = { maxAttachmentBytes: number };

export type Content = {
  text: string | null;
  html: string | null;
  attachments: Attachment[];
  /** All calendars as text, those of type text/calendar first, each with the method in its content type. */
  calendars: CalendarFile[];
};

/** The text of one part of the body, and the uuencoded files in it. */
type Letter = { text: string; files: EncodedFile[] };
/** A file with its decoded bytes, and the part with its names and types. */
type File = { part: Part | undefined; name: string | null; decoded: Buffer };

/** Decodes the content of one leaf. A file without a transfer encoding is decoded if it is clearly base64. */
export function decodeContent(part: Part): Buffer {
  const encoding = fieldValue(part.fields, "content-transfer-encoding") ?? "";
  const content = part.source.subarray(part.from, Math.max(part.from, part.to));
  const isText = /^(?:text|message|multipart)\//.test(part.media.type);
  if (!isText && /^(?:[78]bit|)$/i.test(encoding.trim()) && isEncodedFile(content))
    return decodeTransferEncoding(content, "base64");
  const decoded = decodeTransferEncoding(content, encoding);
  const behind = isText ? textBehindBase64(content, encoding) : Buffer.alloc(0);
  return behind.length > 0 ? Buffer.concat([decoded, behind]) : decoded;
}

/** The text of a leaf, decoded by its charset. `fallback` is the label that the message uses elsewhere. */
export function decodeText(part: Part, decoded: Buffer, fallback?: string): string {
  const label = part.media.params.get("charset");
  const asksMeta =
    part.media.type === "text/html" && !(label !== undefined && isTellingLabel(label)) && !isUtf8(decoded);
  return decodeCharset(decoded, label, (asksMeta ? metaCharset(decoded) : undefined) ?? fallback);
}

/**
 * Reads the sender's text and HTML. If a body has pieces only in text beside pieces only in HTML, each is converted, so
 * that both forms are complete. A body only in HTML has no text. `fallback` is the charset for parts without one.
 */
export function readContent(
  root: Part,
  { fallback, limits, limited }: { fallback: string | undefined; limits: ContentLimits; limited: LimitedReasons },
): Content {
  const { pieces, isFile } = findLetter(root);
  const letters = readLetters(pieces, fallback, limited);
  const files = leaves(root).flatMap((part): File[] => {
    const within = letters
      .get(part)
      ?.files.map(({ name, content }) => ({ part: undefined, name: cleanName(name) || null, decoded: content }));
    if (!isFile(part)) return within ?? [];
    const decoded = decodeContent(part);
    return [{ part, name: readFilename(part, decoded), decoded }];
  });
  if (files.length > MIME_LIMITS.attachments)
    limited.add(`attachments after the first ${MIME_LIMITS.attachments} left out`);
  const retained = files.slice(0, MIME_LIMITS.attachments);
  const content = {
    text: normalizeText(joinPieces(pieces, "plain", letters, limited)),
    html: normalizeText(joinPieces(pieces, "html", letters, limited)),
    attachments: retained.map((file) => toAttachment(file, limits, limited)),
    calendars: findCalendars(retained, fallback),
  };
  const isEmpty = [content.text, content.html, ...files.map(({ decoded }) => firstSigns(decoded))].every(isBlank);
  return isEmpty ? { ...content, text: textOutside(root, limited) ?? content.text } : content;
}

function readLetters(pieces: Piece[], fallback: string | undefined, limited: LimitedReasons): Map<Part, Letter> {
  const letters = new Map<Part, Letter>();
  let left: number = MIME_LIMITS.textBytes;
  for (const part of pieces.flatMap(({ plain, html }) => [...plain, ...html])) {
    const decoded = decodeContent(part);
    if (decoded.length > left) limited.add(`text after ${MIME_LIMITS.textBytes} bytes left out`);
    const used = decoded.subarray(0, left);
    left -= used.length;
    letters.set(part, readLetter(part, used, fallback));
  }
  return letters;
}

function readLetter(part: Part, decoded: Buffer, fallback: string | undefined): Letter {
  if (part.media.type === "text/html") return { text: decodeText(part, decoded, fallback), files: [] };
  const holdsFiles = decoded.includes("\nbegin") || decoded.indexOf("begin") === 0;
  const taken = holdsFiles ? takeFiles(decoded) : undefined;
  const text = decodeText(part, taken?.text ?? decoded, fallback);
  const flowed = /^flowed$/i.test(part.media.params.get("format") ?? "");
  const deleteSpace = /^yes$/i.test(part.media.params.get("delsp") ?? "");
  return { text: flowed ? joinFlowed(text, deleteSpace) : text, files: taken?.files ?? [] };
}

const CONVERSION_LIMITED = `converted between text and HTML only ${MIME_LIMITS.convertedCharacters} characters`;

/** All pieces in one form. Pieces in only the other form are converted. Undefined if no piece has this form. */
function joinPieces(
  pieces: Piece[],
  form: keyof Piece,
  letters: Map<Part, Letter>,
  limited: LimitedReasons,
): string | undefined {
  const other = form === "plain" ? "html" : "plain";
  if (!pieces.some((piece) => piece[form].length > 0)) return undefined;
  const textOf = (part: Part) => letters.get(part)?.text ?? "";
  let left: number = MIME_LIMITS.convertedCharacters;
  const convert = (part: Part) => {
    const whole = textOf(part);
    if (whole.length > left) limited.add(CONVERSION_LIMITED);
    const used = whole.slice(0, left);
    left -= used.length;
    return form === "plain" ? htmlToText(used) : textToHtml(used);
  };
  return pieces
    .flatMap((piece) => (piece[form].length > 0 ? piece[form].map(textOf) : piece[other].map(convert)))
    .join("\n");
}

function normalizeText(value: string | undefined): string | null {
  if (value === undefined || value === "") return null;
  const text = sanitizeText(value);
  return text.includes("\r") ? withLineFeeds(text) : text;
}

const LONG_CHARACTERS = 1024 * 1024;
const [LF, CR] = [10, 13];

function withLineFeeds(text: string): string {
  if (text.length < LONG_CHARACTERS) return text.replace(/\r{1,3}\n|\r/g, "\n");
  // In place, because millions of replacements take hundreds of megabytes on Node.js.
  const bytes = Buffer.from(text, "utf16le");
  const units = new Uint16Array(bytes.buffer, bytes.byteOffset, text.length);
  let length = 0;
  for (let at = 0; at < units.length; at++) {
    if (units[at] === CR) {
      let end = at + 1;
      while (end < at + 3 && units[end] === CR) end++;
      if (units[end] === LF) at = end;
      units[length++] = LF;
    } else units[length++] = units[at] ?? 0;
  }
  return bytes.toString("utf16le", 0, 2 * length);
}

const META_BYTES = 4096;
const META_CHARSET =
  /<meta\s[^>]{0,500}?charset\s*=\s*["']?\s*([^\s"'/>;]{1,40})|<\?xml\s[^>]{0,200}?encoding\s*=\s*["']([^"']{1,40})/i;

// Looks for the charset in the first bytes, as browsers do.
function metaCharset(decoded: Buffer): string | undefined {
  const match = META_CHARSET.exec(decoded.toString("latin1", 0, META_BYTES));
  return match?.[1] ?? match?.[2];
}

/**
 * The label of a charset that some text of the message uses, for parts without one. Undefined if all of it is UTF-8 or
 * ASCII.
 */
export function findCharsetLabel(root: Part): string | undefined {
  for (const part of leaves(root)) {
    if (!part.media.type.startsWith("text/")) continue;
    const label = part.media.params.get("charset");
    if (label !== undefined && isTellingLabel(label)) return label;
    if (part.media.type !== "text/html" || !isEmptyLabel(label)) continue;
    const decoded = decodeContent(part);
    const meta = isUtf8(decoded) ? undefined : metaCharset(decoded);
    if (meta !== undefined && isTellingLabel(meta)) return meta;
  }
  return undefined;
}

const isBlank = (text: string | null) => text === null || text.trim() === "";
const firstSigns = (decoded: Buffer) => decoded.toString("latin1", 0, 100);

/**
 * The text of a message whose parts have no content: an empty text if the parts are only empty, else the lines that are
 * neither delimiters nor header fields. Null for a message without parts.
 */
function textOutside(root: Part, limited: LimitedReasons): string | null {
  if (root.boundary === null) return null;
  const said = linesOutside(root.source.toString("latin1", root.from));
  const text = decodeCharset(Buffer.from(said.replace(FOR_OLD_READERS, "").trim(), "latin1"), undefined);
  if (text.trim() === "") return "";
  limited.add("the parts are empty: the text outside them is used");
  return normalizeText(text);
}

function linesOutside(whole: string): string {
  const said = textPieces();
  let isFirst = true;
  for (let at = 0; at <= whole.length;) {
    const feed = whole.indexOf("\n", at);
    const next = feed < 0 ? whole.length : feed;
    const line = whole.slice(at, next);
    at = next + 1;
    if (/^(?:--|[\w-]{1,60}:|[ \t])[\t -~]*\r*$/.test(line)) continue;
    said.add(isFirst ? line : `\n${line}`);
    isFirst = false;
  }
  return said.text();
}

/** The text that mail programs put before the first part. */
const FOR_OLD_READERS = /^this is an? (?:[a-z ]{1,40} )?(?:multi-?part )?message in mime format\b.*$/gim;

/** The type of a file without a type of its own. */
const UNKNOWN_TYPE = "application/octet-stream";

function toAttachment({ part, name, decoded }: File, limits: ContentLimits, limited: LimitedReasons): Attachment {
  const keep = decoded.length <= limits.maxAttachmentBytes;
  if (!keep) limited.add(attachmentsLeftOut(limits.maxAttachmentBytes));
  if (part?.media.cut) limited.add(`parameters of an attachment after the first ${MIME_LIMITS.parameters} left out`);
  const fields = part?.fields ?? [];
  return {
    filename: name,
    contentType: !part || (!part.media.declared && part.media.type === "text/plain") ? UNKNOWN_TYPE : part.media.type,
    size: decoded.length,
    contentId: stripBrackets(fieldValue(fields, "content-id") ?? "") || null,
    contentLocation: fieldValue(fields, "content-location")?.replace(/\s+/g, "") || null,
    disposition: part ? readDisposition(part) : "attachment",
    content: keep ? new Uint8Array(decoded.buffer, decoded.byteOffset, decoded.byteLength) : null,
  };
}

function stripBrackets(value: string): string {
  const id = value.trim();
  return id.slice(id.startsWith("<") ? 1 : 0, id.endsWith(">") ? -1 : undefined).trim();
}

// Google and Apple attach invitations as application/ics. Others attach them under other types, with names that end
// in .ics.
function findCalendars(files: File[], fallback: string | undefined): CalendarFile[] {
  const typed = files.filter(({ part }) => part?.media.type === "text/calendar");
  const attached = files.filter(
    ({ part, name }) =>
      part?.media.type !== "text/calendar" && (part?.media.type === "application/ics" || /\.ics$/i.test(name ?? "")),
  );
  return [...typed, ...attached].flatMap(({ part, decoded }) => {
    if (!part) return [];
    const method = part.media.params.get("method")?.trim().toUpperCase();
    return [{ content: normalizeText(decodeText(part, decoded, fallback)) ?? "", method: method || null }];
  });
}
