/** A ready RFC 822 message from a client: checked to be one that every server reads alike, completed, and sent as it is otherwise. */
import type { Party } from "../../contract/received.ts";
import { Problem } from "../../contract/problem.ts";
import { addressesIn } from "./addresses.ts";
import { type Composed, newMessageId, unique } from "./compose.ts";

/** `lines` are the field as it was written, folded lines and all, without the last line end. */
type Field = { name: string; value: string; lines: string };

const FIELD = /^([!-9;-~]+):/;
const RECIPIENTS = ["to", "cc", "bcc"];
const ONCE = [
  "from",
  "sender",
  "to",
  "cc",
  "bcc",
  "reply-to",
  "date",
  "message-id",
  "in-reply-to",
  "references",
  "subject",
];

/**
 * Takes the message as it is, but with CRLF line ends and without Bcc; Message-ID, Date and MIME-Version are added where they are
 * missing. `envelope` replaces the recipients its header names. Throws `message` (retry never) for a header that could be
 * read in more than one way: lines that are no field, repeated fields, control characters.
 */
export function ready(raw: Buffer, envelope: readonly Party[], date: Date): Composed {
  const { fields, body } = taken(raw);
  for (const name of ONCE) {
    if (fields.filter((field) => field.name === name).length > 1)
      throw unreadable(`it has more than one ${name} field`);
  }
  const resent = fields.find((field) => field.name.startsWith("resent-"));
  if (resent) throw unreadable(`a ${resent.name} field would name other recipients`);
  const value = (name: string) => fields.find((field) => field.name === name)?.value;
  const senders = addressesIn(value("from") ?? "");
  const [from, ...others] = senders;
  if (from === undefined || others.length > 0) throw unreadable("its From must name one address");
  const sender = value("sender");
  if (sender !== undefined && addressesIn(sender).some((one) => one.toLowerCase() !== from.toLowerCase()))
    throw unreadable("its Sender is another one than its From");
  const messageId = value("message-id") ?? newMessageId(from);
  if (!/^<[^\s<>]+>$/.test(messageId)) throw unreadable("its Message-ID is not one");
  const named = RECIPIENTS.flatMap((name) => addressesIn(value(name) ?? "")).map((address) => ({ address }));
  const added = [
    ...(value("message-id") === undefined ? [`Message-ID: ${messageId}`] : []),
    ...(value("date") === undefined ? [`Date: ${date.toUTCString().replace("GMT", "+0000")}`] : []),
    ...(value("mime-version") === undefined ? ["MIME-Version: 1.0"] : []),
  ];
  const kept = fields.filter((field) => field.name !== "bcc").map((field) => field.lines);
  const head = [...kept, ...added].join("\r\n");
  return {
    raw: Buffer.concat([Buffer.from(`${head}\r\n\r\n`, "latin1"), body]),
    messageId,
    from,
    recipients: unique(envelope.length > 0 ? envelope : named),
    automatic: !/^\s*no\b/i.test(value("auto-submitted") ?? "no"),
  };
}

function taken(raw: Buffer): { fields: Field[]; body: Buffer } {
  // Byte for byte, so that what is not looked at stays as it was.
  const text = raw.toString("latin1").replace(/\r\n|\r|\n/g, "\r\n");
  if (text.includes("\0")) throw unreadable("it contains NUL");
  const end = text.startsWith("\r\n") ? 0 : text.indexOf("\r\n\r\n");
  const head = end < 0 ? text.replace(/\r\n$/, "") : text.slice(0, end);
  const body = end < 0 ? "" : text.slice(end + 4);
  return { fields: fieldsOf(head), body: Buffer.from(body, "latin1") };
}

function fieldsOf(head: string): Field[] {
  const fields: Field[] = [];
  for (const line of head.split("\r\n")) {
    const last = fields.at(-1);
    if (/^[ \t]/.test(line) && last) {
      last.lines += `\r\n${line}`;
      last.value += line;
      continue;
    }
    const name = FIELD.exec(line)?.[1];
    if (name === undefined) throw unreadable("a line of its header is no field");
    fields.push({ name: name.toLowerCase(), value: line.slice(name.length + 1), lines: line });
  }
  for (const field of fields) {
    // eslint-disable-next-line no-control-regex
    if (/[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(field.value))
      throw unreadable(`its ${field.name} has control characters`);
    field.value = Buffer.from(field.value, "latin1").toString("utf8").trim();
  }
  return fields;
}

function unreadable(why: string): Problem {
  return new Problem("message", `The ready message cannot be sent: ${why}`, {
    retry: "never",
    errors: [{ path: "raw", message: why }],
  });
}
