/**
 * The content of a message: its text, its HTML and its attachments. Structure and transfer encodings are bounded here; format=flowed,
 * file names, rare charsets and the joining of parts are postal-mime's work, on a rebuilt message without big bodies. A letter that
 * needs none of it is decoded at once.
 */
import { isUtf8 } from "node:buffer";
import { randomBytes } from "node:crypto";
import PostalMime, { type Email } from "postal-mime";
import type { Attachment } from "../../contract/received.ts";
import { decodeTransfer } from "./body.ts";
import { BOUNDS, type Limited, limitedList } from "./limits.ts";
import { clean, type Field, readHeader, valueOf } from "./header.ts";
import { leaves, type Part } from "./tree.ts";
import { wordDecoder } from "../mime-values.ts";

export type ContentLimits = { maxAttachmentBytes: number };

export type Content = {
  text: string | null;
  html: string | null;
  attachments: Attachment[];
  /** The first text/calendar part as text. */
  calendar: { content: string; method: string | null } | null;
};

/** A leaf with its decoded bytes; `inline` is text that belongs to the letter itself. */
type Leaf = { part: Part; decoded: Buffer; inline: boolean };

/** Decodes the content of one leaf. */
export function contentOf(bytes: Buffer, part: Part): Buffer {
  const encoding = valueOf(part.fields, "content-transfer-encoding") ?? "";
  return decodeTransfer(bytes.subarray(part.from, Math.max(part.from, part.to)), encoding);
}

/**
 * Reads what the sender wrote. Where parts of a letter come only as text or only as HTML beside parts that come as the other,
 * postal-mime converts them, so that neither side lacks a piece; a letter only in HTML has no text.
 */
export async function readContent(
  bytes: Buffer,
  root: Part,
  limits: ContentLimits,
  limited: Limited,
): Promise<Content> {
  const all = new Map<Part, Leaf>();
  let textLeft: number = BOUNDS.textBytes;
  for (const part of leaves(root)) {
    const inline = isInline(part);
    let decoded = contentOf(bytes, part);
    if (inline && decoded.length > textLeft) {
      limited.add(`text after ${BOUNDS.textBytes} bytes left out`);
      decoded = decoded.subarray(0, textLeft);
    }
    if (inline) textLeft -= decoded.length;
    all.set(part, { part, decoded, inline });
  }
  const files = [...all.values()].filter((leaf) => !leaf.inline);
  if (files.length > BOUNDS.attachments) limited.add(`attachments after the first ${BOUNDS.attachments} left out`);
  const kept = files.slice(0, BOUNDS.attachments);
  const letter = files.length === 0 ? plainLetter(root, all) : undefined;
  if (letter) return { text: body(letter.text), html: body(letter.html), attachments: [], calendar: null };
  const email = await parsed(rebuilt(root, all, new Map(kept.map((leaf, index) => [leaf.part, index]))), limited);
  const named = new Map((email?.attachments ?? []).map((one) => [one.description ?? "", one]));
  return {
    text: body(email?.text),
    html: body(email?.html),
    attachments: kept.map((leaf, index) => attachment(leaf, named.get(String(index)), limits, limited)),
    calendar: calendarOf(kept, named),
  };
}

/** Charsets of nearly all mail. Every runtime knows them, and postal-mime leaves them to the runtime, too. */
// prettier-ignore
const COMMON_CHARSETS = [
  "utf-8", "utf8", "iso-8859-1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252",
  "koi8-r", "gb18030", "big5", "iso-2022-jp", "shift_jis", "euc-jp", "euc-kr",
] as const;

type Letter = { text?: string; html?: string };

/** One text, one HTML, or one of each as alternatives, in a common charset: what postal-mime would give. Undefined for all else. */
function plainLetter(root: Part, all: Map<Part, Leaf>): Letter | undefined {
  let part = root;
  for (let only = onlyChild(part); only; only = onlyChild(part)) part = only;
  const sides = part.media.type === "multipart/alternative" ? part.children : [part];
  const letter: Letter = {};
  for (const side of sides) {
    const leaf = all.get(side);
    const value = leaf && plainText(leaf);
    const name = side.media.type === "text/html" ? "html" : "text";
    if (value === undefined || letter[name] !== undefined) return undefined;
    letter[name] = value;
  }
  return letter;
}

function onlyChild({ children }: Part): Part | undefined {
  return children.length === 1 ? children[0] : undefined;
}

function plainText({ part, decoded, inline }: Leaf): string | undefined {
  if (!inline || isFlowed(part)) return undefined;
  const label = charsetOf(part, decoded);
  const charset = COMMON_CHARSETS.find((common) => common === label);
  return charset ? new TextDecoder(charset).decode(decoded) : undefined;
}

function isFlowed({ media }: Part): boolean {
  return /^flowed$/i.test(media.params.get("format") ?? "");
}

async function parsed(message: Buffer, limited: Limited): Promise<Email | undefined> {
  try {
    // The sizes are bounded already; the parser's own bound on headers would count those of all parts together.
    return await PostalMime.parse(message, { forceRfc822Attachments: true, maxHeadersSize: message.length });
  } catch (error) {
    limited.add(`text left out, it cannot be parsed: ${error instanceof Error ? error.message : String(error)}`);
    return undefined;
  }
}

function body(value: string | undefined): string | null {
  return value === undefined || value === "" ? null : clean(value).replace(/\r\n?/g, "\n");
}

function isInline({ media, fields }: Part): boolean {
  const disposition = valueOf(fields, "content-disposition") ?? "";
  return (media.type === "text/plain" || media.type === "text/html") && !/^\s*attachment/i.test(disposition);
}

/** The same structure again, under boundaries nobody could guess: text whole, attachments by their headers only. */
function rebuilt(root: Part, all: Map<Part, Leaf>, kept: Map<Part, number>): Buffer {
  const lines: string[] = [];
  let multiparts = 0;
  const secret = randomBytes(16).toString("hex");
  const write = (part: Part) => {
    const leaf = all.get(part);
    if (leaf?.inline) lines.push(...textLines(leaf));
    else if (leaf) lines.push(...fileLines(leaf, kept.get(part)));
    else {
      const boundary = `${secret}-${multiparts++}`;
      const subtype = /^multipart\/(alternative|related)$/.exec(part.media.type)?.[1] ?? "mixed";
      lines.push(`Content-Type: multipart/${subtype}; boundary="${boundary}"`, "");
      for (const child of part.children) {
        if (all.get(child)?.inline === false && !kept.has(child)) continue;
        lines.push(`--${boundary}`);
        write(child);
      }
      lines.push(`--${boundary}--`);
    }
  };
  write(root);
  return Buffer.from(`${lines.join("\r\n")}\r\n`);
}

function textLines({ part, decoded }: Leaf): string[] {
  const { type, params } = part.media;
  const flowed = isFlowed(part) ? "; format=flowed" : "";
  const delsp = /^yes$/i.test(params.get("delsp") ?? "") ? "; delsp=yes" : "";
  const about = `Content-Type: ${type}; charset="${charsetOf(part, decoded)}"${flowed}${delsp}`;
  return [about, "Content-Transfer-Encoding: base64", "", decoded.toString("base64")];
}

// Labels that lie: no charset or ASCII with 8-bit bytes in it, and gb2312 for its supersets.
function charsetOf({ media }: Part, decoded: Buffer): string {
  const label = (media.params.get("charset") ?? media.params.get("charset*")?.split("'").pop() ?? "").toLowerCase();
  if (/^(|us-ascii|ascii|unknown-8bit|x-unknown)$/.test(label)) return isUtf8(decoded) ? "utf-8" : "windows-1252";
  if (/^(gb2312|gb_2312-80|gbk)$/.test(label)) return "gb18030";
  return label.replace(/[^a-z0-9.:_+-]/g, "").slice(0, 64);
}

function fileLines({ part, decoded }: Leaf, index: number | undefined): string[] {
  const lines = [
    `Content-Type: ${part.media.type}${bounded(part.media.rest)}`,
    // Comes back as the attachment's description: which one it is.
    `Content-Description: ${index ?? ""}`,
  ];
  for (const name of ["content-disposition", "content-id"]) {
    const value = valueOf(part.fields, name);
    if (value !== undefined) lines.push(`${name}: ${bounded(value)}`);
  }
  const calendar = part.media.type === "text/calendar" ? decoded.toString("base64") : "";
  return [...lines, "Content-Transfer-Encoding: base64", "", calendar];
}

// Cut at the last parameter allowed.
function bounded(value: string): string {
  let end = -1;
  for (let count = 0; count <= BOUNDS.parameters; count++) {
    end = value.indexOf(";", end + 1);
    if (end < 0) return value;
  }
  return value.slice(0, end);
}

type Named = Email["attachments"][number];

function attachment(
  { part, decoded }: Leaf,
  named: Named | undefined,
  limits: ContentLimits,
  limited: Limited,
): Attachment {
  const keep = decoded.length <= limits.maxAttachmentBytes;
  if (!keep) limited.add(`attachments over ${limits.maxAttachmentBytes} bytes left out`);
  if (part.media.rest.split(";").length - 1 > BOUNDS.parameters) {
    limited.add(`parameters of an attachment after the first ${BOUNDS.parameters} left out`);
  }
  const disposition = named?.disposition ?? null;
  return {
    filename: named?.filename ? clean(named.filename) : nestedName(part, decoded),
    contentType: part.media.type,
    size: decoded.length,
    contentId: named?.contentId ? clean(named.contentId).replace(/^\s*<|>\s*$/g, "") : null,
    disposition: disposition === null ? null : clean(disposition),
    content: keep ? decoded.toString("base64") : null,
  };
}

// A message inside the message is a file, named by its subject.
function nestedName(part: Part, decoded: Buffer): string | null {
  if (part.media.type !== "message/rfc822") return null;
  const own = limitedList();
  const subject = wordDecoder(own)(valueOf(headerOf(decoded), "subject") ?? "").trim();
  const safe = subject.replace(/[\p{Cc}/\\:*?"<>|]+/gu, " ").trim();
  return `${safe.slice(0, 120).toWellFormed() || "message"}.eml`;
}

/** The header fields of a message inside the message, within the bounds of a part. */
export function headerOf(decoded: Buffer): Field[] {
  const limits = { bytes: BOUNDS.partHeaderBytes, fields: BOUNDS.fields, fieldBytes: BOUNDS.partFieldBytes };
  return readHeader(decoded, { from: 0, to: decoded.length }, limits, limitedList()).fields;
}

function calendarOf(files: Leaf[], named: Map<string, Named>): Content["calendar"] {
  const index = files.findIndex((leaf) => leaf.part.media.type === "text/calendar");
  const leaf = files[index];
  const content = named.get(String(index))?.content;
  if (!leaf || content === undefined || typeof content === "string") return null;
  const method = leaf.part.media.params.get("method");
  return { content: clean(new TextDecoder().decode(content)), method: method ? method.toUpperCase() : null };
}
