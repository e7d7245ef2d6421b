/**
 * Builds test messages as raw bytes with CRLF line ends, the way a mail server stores them. Well-formed ones are made
 * here; the odd ones that real mailboxes hold are in odd-mail.ts.
 */
import { randomUUID } from "node:crypto";

/** A file in a message; with `cid` it is an inline part of the HTML, otherwise an attachment. */
export type Attachment = { filename: string; type?: string; content: Buffer | string; cid?: string };

/** What the head of a message says; whatever is left out gets a harmless value, `messageId: null` leaves it out. */
export type Head = {
  from?: string;
  to?: string;
  subject?: string;
  messageId?: string | null;
  date?: Date;
  headers?: Record<string, string | string[]>;
};

/** A whole message; `bytes` pads its text so that the raw message has at least this size (at most 80 bytes more). */
export type MessageParts = Head & { text?: string; html?: string; attachments?: Attachment[]; bytes?: number };

/** Builds one well-formed message: text, HTML or both, with or without attachments. */
export function message(parts: MessageParts = {}): Buffer {
  const head = headLines(parts);
  const raw = joined(head, body(parts));
  const missing = (parts.bytes ?? 0) - raw.length;
  if (missing <= 0) return raw;
  const padded = { ...parts, text: `${parts.text ?? "Hello,\r\n"}\r\n${padding(missing)}` };
  return joined(head, body(padded));
}

/** Builds the message with this number: "Message 17", found again by its subject, its text and its X-Number header. */
export function numbered(number: number, parts: MessageParts = {}): Buffer {
  return message({
    subject: `Message ${number}`,
    text: `This is message ${number}.`,
    ...parts,
    headers: { "X-Number": String(number), ...parts.headers },
  });
}

/** The header lines of a message, without the ones that describe its body. */
export function headLines(head: Head = {}): string[] {
  const lines = [
    `From: ${head.from ?? "Ann Sender <ann@sender.example>"}`,
    `To: ${head.to ?? "Bob Receiver <bob@receiver.example>"}`,
    `Subject: ${encodedWords(head.subject ?? "A test message")}`,
    `Date: ${rfc5322Date(head.date ?? new Date())}`,
  ];
  if (head.messageId !== null) lines.push(`Message-ID: ${head.messageId ?? `<${randomUUID()}@sender.example>`}`);
  for (const [name, value] of Object.entries(head.headers ?? {})) {
    for (const one of [value].flat()) lines.push(`${name}: ${one}`);
  }
  lines.push("MIME-Version: 1.0");
  return lines;
}

/** Puts head and body together: strings are lines, joined by CRLF as UTF-8; buffers stay as they are. */
export function joined(head: string[], rest: string[] | Buffer): Buffer {
  const top = Buffer.from(`${head.join("\r\n")}\r\n`);
  return Buffer.concat([top, Buffer.isBuffer(rest) ? rest : Buffer.from(`${rest.join("\r\n")}\r\n`)]);
}

/** One multipart body: its Content-Type line, a blank line, the parts and the closing boundary. */
export function multipart(subtype: string, parts: string[][], boundary = `=_${randomUUID()}`): string[] {
  const lines = [`Content-Type: multipart/${subtype}; boundary="${boundary}"`, ""];
  for (const part of parts) lines.push(`--${boundary}`, ...part);
  lines.push(`--${boundary}--`, "");
  return lines;
}

/** A leaf of a message: its header lines, a blank line, and the content, in base64 unless it is plain ASCII text. */
export function leaf(type: string, content: string | Buffer, headers: string[] = []): string[] {
  const ascii = typeof content === "string" && /^[\t\r\n -~]*$/.test(content);
  if (ascii) {
    return [
      `Content-Type: ${type}`,
      ...headers,
      "Content-Transfer-Encoding: 7bit",
      "",
      content.replace(/\r?\n/g, "\r\n"),
    ];
  }
  const lines =
    Buffer.from(content)
      .toString("base64")
      .match(/.{1,76}/g) ?? [];
  return [`Content-Type: ${type}`, ...headers, "Content-Transfer-Encoding: base64", "", ...lines];
}

/** A header value in RFC 2047 encoded words of whole characters, or as it is when it is ASCII. */
export function encodedWords(value: string): string {
  if (/^[\t\r\n -~]*$/.test(value)) return value;
  const words: string[] = [];
  let word = "";
  for (const character of value) {
    if (Buffer.byteLength(word + character) > 45) {
      words.push(word);
      word = "";
    }
    word += character;
  }
  words.push(word);
  return words.map((text) => `=?UTF-8?B?${Buffer.from(text).toString("base64")}?=`).join("\r\n ");
}

function body(parts: MessageParts): string[] {
  const plain = leaf("text/plain; charset=utf-8", parts.text ?? "Hello,\r\nthis is a test.");
  const html = parts.html === undefined ? undefined : leaf("text/html; charset=utf-8", parts.html);
  const attachments = parts.attachments ?? [];
  const inline = attachments.filter((attachment) => attachment.cid !== undefined).map(attached);
  const files = attachments.filter((attachment) => attachment.cid === undefined).map(attached);
  const rich = html && inline.length > 0 ? multipart("related", [html, ...inline]) : html;
  const text = rich === undefined ? plain : parts.text === undefined ? rich : multipart("alternative", [plain, rich]);
  return files.length > 0 ? multipart("mixed", [text, ...files]) : text;
}

function attached(file: Attachment): string[] {
  const disposition = file.cid === undefined ? "attachment" : "inline";
  const headers = [`Content-Disposition: ${disposition}; filename="${file.filename}"`];
  if (file.cid !== undefined) headers.push(`Content-ID: <${file.cid}>`);
  return leaf(
    `${file.type ?? "application/octet-stream"}; name="${file.filename}"`,
    Buffer.from(file.content),
    headers,
  );
}

function padding(bytes: number): string {
  const line = `${"The quick brown fox jumps over the lazy dog. ".repeat(2).slice(0, 76)}\r\n`;
  return line.repeat(Math.ceil(bytes / line.length));
}

function rfc5322Date(date: Date): string {
  return date.toUTCString().replace("GMT", "+0000");
}
