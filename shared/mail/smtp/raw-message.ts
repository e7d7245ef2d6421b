/**
 * A ready RFC 822 message from a client. It is checked so that every server reads it the same way, completed, and
 * otherwise sent as it is.
 */
import type { NamedAddress } from "../../contract/received.ts";
import { Problem } from "../../contract/problem.ts";
import { parseAddressHeader } from "./addresses.ts";
import { type ComposedMessage, newMessageId, uniqueAddresses } from "./compose.ts";

/** `lines` are the field as it was written, with its folded lines, without the last line end. */
type Field = { name: string; value: string; lines: string };

const FIELD = /^([!-9;-~]+):/;
const RECIPIENT_FIELDS = ["to", "cc", "bcc"];
const SINGLE_FIELDS = [
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
 * Takes the message as it is, but with CRLF line ends and without Bcc. Message-ID, Date and MIME-Version are added if
 * they are missing. `envelope` replaces the recipients of the header. Throws `message` (retry never) for a header that
 * servers could read in different ways: lines that are no field, repeated fields, control characters.
 */
export function prepareRawMessage(raw: Buffer, envelope: readonly NamedAddress[], date: Date): ComposedMessage {
  const { fields, body } = splitMessage(raw);
  for (const name of SINGLE_FIELDS) {
    if (fields.filter((field) => field.name === name).length > 1)
      throw toMessageProblem(`it has more than one ${name} field`);
  }
  const resent = fields.find((field) => field.name.startsWith("resent-"));
  if (resent) throw toMessageProblem(`a ${resent.name} field would name other recipients`);
  const value = (name: string) => fields.find((field) => field.name === name)?.value;
  const senders = parseAddressHeader(value("from") ?? "");
  const [from, ...others] = senders;
  if (from === undefined || others.length > 0) throw toMessageProblem("its From must name one address");
  const sender = value("sender");
  if (sender !== undefined && parseAddressHeader(sender).some((one) => one.toLowerCase() !== from.toLowerCase()))
    throw toMessageProblem("its Sender is not its From");
  const messageId = value("message-id") ?? newMessageId(from);
  if (!/^<[^\s<>]+>$/.test(messageId)) throw toMessageProblem("its Message-ID is not valid");
  const headerRecipients = RECIPIENT_FIELDS.flatMap((name) => parseAddressHeader(value(name) ?? "")).map((address) => ({
    address,
  }));
  const addedFields = [
    ...(value("message-id") === undefined ? [`Message-ID: ${messageId}`] : []),
    ...(value("date") === undefined ? [`Date: ${date.toUTCString().replace("GMT", "+0000")}`] : []),
    ...(value("mime-version") === undefined ? ["MIME-Version: 1.0"] : []),
  ];
  const retained = fields.filter((field) => field.name !== "bcc").map((field) => field.lines);
  const head = [...retained, ...addedFields].join("\r\n");
  return {
    raw: Buffer.concat([Buffer.from(`${head}\r\n\r\n`, "latin1"), body]),
    messageId,
    from,
    recipients: uniqueAddresses(envelope.length > 0 ? envelope : headerRecipients),
    automatic: !/^\s*no\b/i.test(value("auto-submitted") ?? "no"),
  };
}

function splitMessage(raw: Buffer): { fields: Field[]; body: Buffer } {
  // Read as single bytes, so that everything else stays as it was.
  const text = raw.toString("latin1").replace(/\r\n|\r|\n/g, "\r\n");
  if (text.includes("\0")) throw toMessageProblem("it contains NUL");
  const end = text.startsWith("\r\n") ? 0 : text.indexOf("\r\n\r\n");
  const head = end < 0 ? text.replace(/\r\n$/, "") : text.slice(0, end);
  const body = end < 0 ? "" : text.slice(end + 4);
  return { fields: parseFields(head), body: Buffer.from(body, "latin1") };
}

function parseFields(head: string): Field[] {
  const fields: Field[] = [];
  for (const line of head.split("\r\n")) {
    const last = fields.at(-1);
    if (/^[ \t]/.test(line) && last) {
      last.lines += `\r\n${line}`;
      last.value += line;
      continue;
    }
    const name = FIELD.exec(line)?.[1];
    if (name === undefined) throw toMessageProblem("a line of its header is not a field");
    fields.push({ name: name.toLowerCase(), value: line.slice(name.length + 1), lines: line });
  }
  for (const field of fields) {
    // eslint-disable-next-line no-control-regex
    if (/[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]/.test(field.value))
      throw toMessageProblem(`its ${field.name} has control characters`);
    field.value = Buffer.from(field.value, "latin1").toString("utf8").trim();
  }
  return fields;
}

function toMessageProblem(why: string): Problem {
  return new Problem("message", `The ready message cannot be sent: ${why}`, {
    retry: "never",
    errors: [{ path: "raw", message: why }],
  });
}
