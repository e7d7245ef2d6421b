/** Parses the bytes of a message into what an endpoint receives. */
import type { ParsedMessage } from "../../contract/received.ts";
import { isTellingLabel } from "./charset/decode.ts";
import { MIME_LIMITS, type LimitedReasons, limitedReasons } from "./limits.ts";
import { type ContentLimits, findCharsetLabel, readContent } from "./content.ts";
import { type Field, type HeaderBlock, decodeRawFields, fieldValue, isMessageHeader, readHeader } from "./header.ts";
import { readNotification } from "./bounce/notification.ts";
import { maySpeakForServer } from "./bounce/words.ts";
import { readReceipt } from "./receipt.ts";
import { detectAutomatic } from "./automatic.ts";
import { readCalendars } from "./calendar/invitations.ts";
import { quoteHtml } from "./reply/html.ts";
import { readReply } from "./reply/reply.ts";
import { openWrapped } from "./wrapped/open.ts";
import { detectPgp } from "./wrapped/pgp.ts";
import { type Part, leaves, readTree } from "./tree.ts";
import { partyReader } from "./values/addresses.ts";
import { toIsoDate } from "./values/dates.ts";
import { parseMediaType } from "./values/media-type.ts";
import { parseParameters } from "./values/parameters.ts";
import { readInReplyTo, readMessageId, readReferences } from "./values/message-ids.ts";
import { encodedWordDecoder, findWords } from "./values/words.ts";

type ContentValues =
  | ("text" | "html" | "reply" | "attachments" | "bounce" | "delay" | "receipt")
  | ("calendar" | "calendars" | "signed" | "encrypted" | "limited");
type HeaderValues = Omit<ParsedMessage, ContentValues>;

const MESSAGE_LIMITS = {
  bytes: MIME_LIMITS.headerBytes,
  fields: MIME_LIMITS.fields,
  fieldBytes: MIME_LIMITS.fieldBytes,
};

/**
 * Parses a message of any bytes and never rejects. What is over the limits or cannot be read is left out, and `limited`
 * says so in plain words. Attachments over `maxAttachmentBytes` (decoded) come without their content.
 */
export async function parseMessage(raw: Uint8Array, limits: ContentLimits): Promise<ParsedMessage> {
  try {
    return parseWholeMessage(raw, limits);
  } catch (error) {
    return parseHeadersOnly(
      raw,
      `content left out, it cannot be parsed: ${error instanceof Error ? error.message : "?"}`,
    );
  }
}

/** Parses only the header, for a message whose content cannot be parsed for the given reason. */
export function parseHeadersOnly(raw: Uint8Array, reason: string): ParsedMessage {
  const limited = limitedReasons();
  limited.add(reason);
  const { header } = readMessageHeader(raw, limited);
  return {
    ...readHeaderValues(decodeRawFields(header.fields, charsetOfWords(header.fields)), limited),
    text: null,
    html: null,
    reply: null,
    attachments: [],
    bounce: null,
    delay: null,
    receipt: null,
    calendar: null,
    calendars: [],
    signed: null,
    encrypted: null,
    limited: limited.reasons(),
  };
}

function parseWholeMessage(raw: Uint8Array, limits: ContentLimits): ParsedMessage {
  const limited = limitedReasons();
  const { bytes, header } = readMessageHeader(raw, limited);
  const { root, signed, encrypted } = openWrapped(readTree(bytes, header, limited), limited);
  const fallback = findCharsetLabel(root) ?? charsetOfWords(header.fields);
  if (fallback !== undefined) decodeRawParts(root, fallback);
  const fields = decodeRawFields(header.fields, fallback);
  const content = readContent(root, { fallback, limits, limited });
  const { text, html, attachments } = content;
  const values = readHeaderValues(fields, limited);
  // A body only in HTML is converted to text first, except in newsletters, which are no replies.
  const isNewsletter = () => values.automatic === "bulk" && !maySpeakForServer(fields);
  const readable = text ?? (html === null || isNewsletter() ? "" : quoteHtml(html));
  const source = { root, fields, subject: values.subject, text: readable };
  const notification = readNotification(source, limited);
  const receipt = readReceipt(leaves(root), limited);
  const calendars = readCalendars(content.calendars, limited);
  const pgp = detectPgp(readable);
  // A report about another message comes from a program, so it has no reply.
  const isReport = Boolean(notification.bounce ?? notification.delay ?? receipt);
  return {
    ...values,
    automatic: values.automatic ?? (isReport ? "auto-generated" : null),
    text,
    html,
    reply: isReport ? null : readReply(readable),
    attachments,
    ...notification,
    receipt,
    calendar: calendars[0] ?? null,
    calendars,
    signed: signed ?? (pgp === "signed" ? "pgp" : null),
    encrypted: encrypted ?? (pgp === "encrypted" ? "pgp" : null),
    limited: limited.reasons(),
  };
}

function readMessageHeader(raw: Uint8Array, limited: LimitedReasons): { bytes: Buffer; header: HeaderBlock } {
  const bytes = withLineFeeds(Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength));
  const header = readHeader(bytes, { from: 0, to: bytes.length }, MESSAGE_LIMITS, limited);
  const isText = header.body >= bytes.length && !isMessageHeader(header.fields);
  return { bytes, header: isText ? { fields: [], body: 0 } : header };
}

// Old Macs ended lines with CR alone. A header that ends in two CRs, before any line feed, has such lines.
function withLineFeeds(bytes: Buffer): Buffer {
  const feed = bytes.indexOf(10);
  const end = feed < 0 ? bytes.length : feed - 1;
  const header = bytes.subarray(0, Math.max(0, end));
  if (feed < 0 ? !bytes.includes(13) : !header.includes("\r\r")) return bytes;
  const copy = Buffer.from(bytes);
  for (let at = copy.indexOf(13); at >= 0; at = copy.indexOf(13, at + 1)) if (copy[at + 1] !== 10) copy[at] = 10;
  return copy;
}

const WORD_FIELDS = new Set(["subject", "from", "to", "cc", "reply-to"]);

/** The charset of the first encoded word in a charset other than UTF-8. */
function charsetOfWords(fields: Field[]): string | undefined {
  const named = fields.filter(({ name, value }) => WORD_FIELDS.has(name) && value.includes("=?"));
  return named.flatMap(({ value }) => findWords(value)).find(({ charset }) => isTellingLabel(charset))?.charset;
}

/** Decodes raw bytes in the headers of parts, such as file names, by the charset of the message. */
function decodeRawParts(part: Part, charset: string): void {
  if (part.fields.some(({ raw }) => raw !== undefined)) {
    part.fields = decodeRawFields(part.fields, charset);
    const { params } = parseMediaType(fieldValue(part.fields, "content-type"), part.media.type);
    part.media = { ...part.media, params };
    part.disposition = parseParameters(fieldValue(part.fields, "content-disposition") ?? "");
  }
  for (const child of part.children) decodeRawParts(child, charset);
}

// The first readable date among several fields.
function readDate(fields: Field[]): string | null {
  for (const { name, value } of fields) {
    const date = name === "date" ? toIsoDate(value) : null;
    if (date !== null) return date;
  }
  return null;
}

function readHeaderValues(fields: Field[], limited: LimitedReasons): HeaderValues {
  const decode = encodedWordDecoder(limited);
  const parties = partyReader(fields, decode, limited);
  const references = readReferences(fields, limited);
  const subject = decode(fieldValue(fields, "subject") ?? "");
  return {
    messageId: readMessageId(fields, limited),
    inReplyTo: readInReplyTo(fields, references, limited),
    references,
    date: readDate(fields),
    subject,
    from: parties.one("from"),
    sender: parties.one("sender"),
    replyTo: parties.all("reply-to"),
    to: parties.all("to"),
    cc: parties.all("cc"),
    bcc: parties.all("bcc"),
    headers: fields.map(({ name, value }): [string, string] => [name, decode(value)]),
    automatic: detectAutomatic(fields, subject),
  };
}
