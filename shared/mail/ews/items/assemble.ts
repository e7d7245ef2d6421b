/**
 * A message put together again from what a server holds of it: the header as it was, the text, the files. The same parts always make
 * the same bytes, by which a delivery is recognized.
 */
import { createHash } from "node:crypto";

export type Parts = {
  /** The item's id. */
  id: string;
  header: { name: string; value: string }[];
  text: string;
  html: boolean;
  files: File[];
};

/** A file, or a message inside the message. */
export type File = { name: string; type: string; contentId: string | null; inline: boolean; bytes: Uint8Array };

/** Fields that say how the message was put together before, and now are ours to say. */
const STRUCTURE = /^(mime-version|content-.*)$/i;
const LINE = 57;
const FOLDED = 900;

/** RFC 5322 bytes, all of it 7 bit but messages inside, which stay as they are (RFC 2046 section 5.2.1). */
export function assembled({ id, header, text, html, files }: Parts): Buffer {
  const fields = header.filter(({ name }) => !STRUCTURE.test(name) && /^[!-9;-~]+$/.test(name));
  const pieces: Buffer[] = fields.map(({ name, value }) => Buffer.from(`${name}: ${folded(encoded(value))}\r\n`));
  pieces.push(Buffer.from("MIME-Version: 1.0\r\n"));
  const letter = [contentType(html ? "text/html" : "text/plain", "; charset=utf-8"), ...base64(Buffer.from(text))];
  if (files.length === 0) return Buffer.concat([...pieces, ...letter]);
  const boundary = `=_${createHash("sha256").update(id).digest("hex").slice(0, 32)}`;
  pieces.push(Buffer.from(`Content-Type: multipart/mixed; boundary="${boundary}"\r\n\r\n`));
  const next = Buffer.from(`\r\n--${boundary}\r\n`);
  for (const part of [letter, ...files.map(filePieces)]) pieces.push(next, ...part);
  pieces.push(Buffer.from(`\r\n--${boundary}--\r\n`));
  return Buffer.concat(pieces);
}

function contentType(type: string, parameters: string): Buffer {
  return Buffer.from(`Content-Type: ${type}${parameters}\r\n`);
}

function filePieces({ name, type, contentId, inline, bytes }: File): Buffer[] {
  const named = name === "" ? "" : `; filename*=UTF-8''${rfc5987(name)}`;
  const plain = /^[\w.+-]+\/[\w.+-]+$/.test(type) ? type.toLowerCase() : "application/octet-stream";
  const id = contentId === null ? "" : `Content-ID: <${contentId.replaceAll(/[^!-;=?-~]/g, "")}>\r\n`;
  const head = Buffer.from(`Content-Disposition: ${inline ? "inline" : "attachment"}${named}\r\n${id}`);
  if (plain === "message/rfc822") {
    return [contentType(plain, ""), head, Buffer.from("Content-Transfer-Encoding: 8bit\r\n\r\n"), Buffer.from(bytes)];
  }
  return [contentType(plain, ""), head, ...base64(bytes)];
}

/** In pieces, so that a large file is never one text. */
function base64(bytes: Uint8Array): Buffer[] {
  const pieces: Buffer[] = [Buffer.from("Content-Transfer-Encoding: base64\r\n\r\n")];
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at < all.length; at += LINE * 1000) {
    const text = all.toString("base64", at, at + LINE * 1000);
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

/** One line; what is not ASCII in encoded words (RFC 2047) of whole characters. */
function encoded(value: string): string {
  const line = value.replaceAll(/\s+/g, " ").trim();
  if (/^[ -~]*$/.test(line)) return line;
  const words = line.toWellFormed().match(/[^]{1,10}/gu) ?? [];
  return words.map((word) => `=?utf-8?B?${Buffer.from(word).toString("base64")}?=`).join(" ");
}

function folded(line: string): string {
  return line.length <= FOLDED ? line : line.replaceAll(/(.{1,900}) /g, "$1\r\n ");
}
