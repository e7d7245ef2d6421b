/** What the test server reads in a raw message and changes in it: header fields, recipients, a body and attachments. */
import { randomUUID } from "node:crypto";
import { addressParser, decodeWords } from "postal-mime";

export type Person = { name: string; address: string };

/** The header of a message, decoded. */
export type Head = {
  subject: string;
  from: Person | undefined;
  sender: Person | undefined;
  replyTo: Person[];
  to: Person[];
  cc: Person[];
  bcc: Person[];
  messageId: string | undefined;
  inReplyTo: string | undefined;
  references: string | undefined;
  sent: Date | undefined;
  importance: "Low" | "Normal" | "High";
  hasAttachments: boolean;
  fields: { name: string; value: string }[];
};

/** Reads the header; whatever it lacks is empty. */
export function readHead(raw: Buffer): Head {
  const fields = fieldsOf(headText(raw));
  const value = (name: string) => fields.find((one) => one.name.toLowerCase() === name)?.value;
  const people = (name: string): Person[] => {
    const found = fields.filter((one) => one.name.toLowerCase() === name);
    return found.flatMap((one) =>
      addressParser(one.value, { flatten: true }).map((person) => ({
        name: decodeWords(person.name),
        address: person.address ?? "",
      })),
    );
  };
  const date = new Date(value("date") ?? "");
  return {
    subject: decodeWords(value("subject") ?? ""),
    from: people("from")[0],
    sender: people("sender")[0] ?? people("from")[0],
    replyTo: people("reply-to"),
    to: people("to"),
    cc: people("cc"),
    bcc: people("bcc"),
    messageId: value("message-id"),
    inReplyTo: value("in-reply-to"),
    references: value("references"),
    sent: Number.isNaN(date.getTime()) ? undefined : date,
    importance: importanceOf(value("importance"), value("x-priority")),
    hasAttachments: /^content-disposition:\s*attachment/im.test(raw.subarray(0, 1_000_000).toString("latin1")),
    fields,
  };
}

function importanceOf(importance = "", priority = ""): Head["importance"] {
  if (/high/i.test(importance) || /^[12]/.test(priority)) return "High";
  return /low/i.test(importance) || /^[45]/.test(priority) ? "Low" : "Normal";
}

function headEnd(raw: Buffer): number {
  if (raw.subarray(0, 2).toString() === "\r\n") return 0;
  const found = raw.indexOf("\r\n\r\n");
  return found < 0 ? raw.length : found + 2;
}

function headText(raw: Buffer): string {
  return raw.subarray(0, headEnd(raw)).toString("utf8");
}

function fieldsOf(text: string): { name: string; value: string }[] {
  const lines = text.replace(/\r\n(?=[ \t])/g, "").split("\r\n");
  return lines.flatMap((line) => {
    const colon = line.indexOf(":");
    return colon > 0 ? [{ name: line.slice(0, colon).trim(), value: line.slice(colon + 1).trim() }] : [];
  });
}

/** The message with this field in place of all of its name; without it for undefined. */
export function withField(raw: Buffer, name: string, value: string | undefined): Buffer {
  const end = headEnd(raw);
  const kept = raw
    .subarray(0, end)
    .toString("latin1")
    .split(/\r\n(?![ \t])/)
    .filter((line) => line !== "" && line.slice(0, line.indexOf(":")).trim().toLowerCase() !== name.toLowerCase())
    .map((line) => `${line}\r\n`)
    .join("");
  const added = value === undefined ? "" : `${name}: ${value}\r\n`;
  const rest = end >= raw.length ? Buffer.from("\r\n") : raw.subarray(end);
  return Buffer.concat([Buffer.from(kept, "latin1"), Buffer.from(added, "utf8"), rest]);
}

/** Text as a header may hold it. */
export function encoded(text: string): string {
  return /^[\t -~]*$/.test(text) ? text : `=?utf-8?B?${Buffer.from(text).toString("base64")}?=`;
}

/** People as a header field. */
export function peopleField(people: Person[]): string | undefined {
  if (people.length === 0) return undefined;
  return people.map(({ name, address }) => (name ? `${phrase(name)} <${address}>` : address)).join(", ");
}

/** Within quotes an encoded word is none (RFC 2047, 5). */
function phrase(name: string): string {
  return encoded(name) === name ? `"${name}"` : encoded(name);
}

/** The same header over another text, in base64. */
export function withBody(raw: Buffer, text: string, html: boolean): Buffer {
  let head = raw.subarray(0, headEnd(raw));
  for (const name of ["Content-Type", "Content-Transfer-Encoding", "MIME-Version"]) head = headWithout(head, name);
  const lines = [
    "MIME-Version: 1.0",
    `Content-Type: text/${html ? "html" : "plain"}; charset=utf-8`,
    "Content-Transfer-Encoding: base64",
    "",
    folded(Buffer.from(text)),
    "",
  ];
  return Buffer.concat([head, Buffer.from(lines.join("\r\n"))]);
}

function headWithout(head: Buffer, name: string): Buffer {
  const changed = withField(Buffer.concat([head, Buffer.from("\r\n")]), name, undefined);
  return changed.subarray(0, headEnd(changed));
}

export type File = { id: string; name: string; type: string; contentId: string | undefined; content: Buffer };

/** The message with these files behind its own body, in a multipart/mixed around both. */
export function withFiles(raw: Buffer, files: File[]): Buffer {
  if (files.length === 0) return raw;
  const end = headEnd(raw);
  const described = fieldsOf(raw.subarray(0, end).toString("latin1")).filter((one) => /^content-/i.test(one.name));
  let head = raw.subarray(0, end);
  for (const { name } of [...described, { name: "MIME-Version" }]) head = headWithout(head, name);
  const boundary = `=_${randomUUID()}`;
  const top = ["MIME-Version: 1.0", `Content-Type: multipart/mixed; boundary="${boundary}"`, "", `--${boundary}`, ""];
  const own = described.map(({ name, value }) => `${name}: ${value}\r\n`).join("");
  const parts = files.map((file) => Buffer.from(`\r\n--${boundary}\r\n${filePart(file)}`));
  return Buffer.concat([
    head,
    Buffer.from(top.join("\r\n")),
    Buffer.from(own, "latin1"),
    end >= raw.length ? Buffer.from("\r\n") : raw.subarray(end),
    ...parts,
    Buffer.from(`\r\n--${boundary}--\r\n`),
  ]);
}

function filePart(file: File): string {
  const lines = [
    `Content-Type: ${file.type}; name="${encoded(file.name)}"`,
    `Content-Disposition: ${file.contentId ? "inline" : "attachment"}; filename="${encoded(file.name)}"`,
    ...(file.contentId ? [`Content-ID: <${file.contentId}>`] : []),
    "Content-Transfer-Encoding: base64",
    "",
    folded(file.content),
  ];
  return lines.join("\r\n");
}

function folded(content: Buffer): string {
  return content.toString("base64").replace(/.{76}/g, "$&\r\n");
}
