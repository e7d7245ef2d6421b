/**
 * Assembles a message from what the server has of it: the original header, the text, the attachments. The same parts
 * always give the same bytes, and so the same delivery id.
 */
import { createHash } from "node:crypto";

export type MessageParts = {
  /** The item's id. */
  id: string;
  header: { name: string; value: string }[];
  text: string;
  html: boolean;
  attachments: Attachment[];
};

/** A file, or a message inside the message. */
export type Attachment = { name: string; type: string; contentId: string | null; inline: boolean; bytes: Uint8Array };

/** Header fields about the original structure. The assembled message has its own. */
const STRUCTURE_FIELDS = /^(mime-version|content-.*)$/i;
const LINE_BYTES = 57;
const MAX_LINE_LENGTH = 900;

/** RFC 5322 bytes, all 7 bit except messages inside, which stay as they are (RFC 2046 section 5.2.1). */
export function assembleMessage({ id, header, text, html, attachments }: MessageParts): Buffer {
  const fields = header.filter(({ name }) => !STRUCTURE_FIELDS.test(name) && /^[!-9;-~]+$/.test(name));
  const chunks: Buffer[] = fields.map(({ name, value }) =>
    Buffer.from(`${name}: ${foldLine(encodeHeaderValue(value))}\r\n`),
  );
  chunks.push(Buffer.from("MIME-Version: 1.0\r\n"));
  const textPart = [
    contentType(html ? "text/html" : "text/plain", "; charset=utf-8"),
    ...base64Chunks(Buffer.from(text)),
  ];
  if (attachments.length === 0) return Buffer.concat([...chunks, ...textPart]);
  const boundary = `=_${createHash("sha256").update(id).digest("hex").slice(0, 32)}`;
  chunks.push(Buffer.from(`Content-Type: multipart/mixed; boundary="${boundary}"\r\n\r\n`));
  const next = Buffer.from(`\r\n--${boundary}\r\n`);
  for (const part of [textPart, ...attachments.map(attachmentChunks)]) chunks.push(next, ...part);
  chunks.push(Buffer.from(`\r\n--${boundary}--\r\n`));
  return Buffer.concat(chunks);
}

function contentType(type: string, parameters: string): Buffer {
  return Buffer.from(`Content-Type: ${type}${parameters}\r\n`);
}

function attachmentChunks({ name, type, contentId, inline, bytes }: Attachment): Buffer[] {
  const named = name === "" ? "" : `; filename*=UTF-8''${rfc5987(name)}`;
  const plain = /^[\w.+-]+\/[\w.+-]+$/.test(type) ? type.toLowerCase() : "application/octet-stream";
  const id = contentId === null ? "" : `Content-ID: <${contentId.replaceAll(/[^!-;=?-~]/g, "")}>\r\n`;
  const head = Buffer.from(`Content-Disposition: ${inline ? "inline" : "attachment"}${named}\r\n${id}`);
  if (plain === "message/rfc822") {
    return [contentType(plain, ""), head, Buffer.from("Content-Transfer-Encoding: 8bit\r\n\r\n"), Buffer.from(bytes)];
  }
  return [contentType(plain, ""), head, ...base64Chunks(bytes)];
}

/** In chunks, so that a large file is never one string. */
function base64Chunks(bytes: Uint8Array): Buffer[] {
  const pieces: Buffer[] = [Buffer.from("Content-Transfer-Encoding: base64\r\n\r\n")];
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < all.length; at += LINE_BYTES * 1000) {
    const text = all.toString("base64", at, at + LINE_BYTES * 1000);
    pieces.push(Buffer.from(text.replaceAll(/.{1,76}/g, "$&\r\n")));
  }
  return pieces;
}

/** RFC 8187 section 3.2. */
function rfc5987(text: string): string {
  return encodeURIComponent(text.toWellFormed()).replaceAll(
    /['()*]/g,
    (letter) => `%${letter.charCodeAt(0).toString(16)}`,
  );
}

/** One line. Text that is not ASCII becomes encoded words (RFC 2047) of whole characters. */
function encodeHeaderValue(value: string): string {
  const line = value.replaceAll(/\s+/g, " ").trim();
  if (/^[ -~]*$/.test(line)) return line;
  const words = line.toWellFormed().match(/[^]{1,10}/gu) ?? [];
  return words.map((word) => `=?utf-8?B?${Buffer.from(word).toString("base64")}?=`).join(" ");
}

function foldLine(line: string): string {
  return line.length <= MAX_LINE_LENGTH ? line : line.replaceAll(/(.{1,900}) /g, "$1\r\n ");
}
