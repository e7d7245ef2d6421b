/** From the bytes of one message to what an endpoint receives of it, whatever the bytes are. */
import type { ParsedMessage } from "../../contract/received.ts";
import { BOUNDS, type Limited, limitedList } from "./limits.ts";
import { type ContentLimits, readContent } from "./content.ts";
import { type Field, readHeader, valueOf } from "./header.ts";
import { bounceOf } from "../mime-bounce.ts";
import { automaticSign, calendarSign, encryptedSign } from "./automatic.ts";
import { readTree } from "./tree.ts";
import { isoDate, messageIds, parties, wordDecoder } from "../mime-values.ts";

type Letterhead = Omit<
  ParsedMessage,
  "text" | "html" | "attachments" | "bounce" | "calendar" | "encrypted" | "limited"
>;

const MESSAGE_LIMITS = { bytes: BOUNDS.headerBytes, fields: BOUNDS.fields, fieldBytes: BOUNDS.fieldBytes };

/**
 * Parses a message of any bytes and never rejects: what lies over the bounds, and what cannot be read, is left out, and
 * `limited` says so in plain words. Attachments over `maxAttachmentBytes` (decoded) come without their content.
 */
export async function parseMessage(raw: Uint8Array, limits: ContentLimits): Promise<ParsedMessage> {
  try {
    return await wholeMessage(raw, limits);
  } catch (error) {
    return headersOnly(raw, `content left out, it cannot be parsed: ${error instanceof Error ? error.message : "?"}`);
  }
}

/** The header alone, for a message whose content cannot be parsed for the given reason. */
export function headersOnly(raw: Uint8Array, reason: string): ParsedMessage {
  const limited = limitedList();
  limited.add(reason);
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  const head = readHeader(bytes, { from: 0, to: bytes.length }, MESSAGE_LIMITS, limited);
  return {
    ...letterhead(head.fields, limited),
    text: null,
    html: null,
    attachments: [],
    bounce: null,
    calendar: null,
    encrypted: null,
    limited: limited.reasons(),
  };
}

async function wholeMessage(raw: Uint8Array, limits: ContentLimits): Promise<ParsedMessage> {
  const limited = limitedList();
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  const head = readHeader(bytes, { from: 0, to: bytes.length }, MESSAGE_LIMITS, limited);
  const root = readTree(bytes, head, limited);
  const { text, html, attachments, calendar } = await readContent(bytes, root, limits, limited);
  return {
    ...letterhead(head.fields, limited),
    text,
    html,
    attachments,
    bounce: bounceOf(bytes, root, head.fields, limited),
    calendar: calendarSign(calendar),
    encrypted: encryptedSign(root),
    limited: limited.reasons(),
  };
}

function letterhead(fields: Field[], limited: Limited): Letterhead {
  const decode = wordDecoder(limited);
  const list = (name: string) => parties(fields, name, limited);
  return {
    messageId: messageIds(valueOf(fields, "message-id"), limited)[0] ?? null,
    inReplyTo: messageIds(valueOf(fields, "in-reply-to"), limited)[0] ?? null,
    references: messageIds(valueOf(fields, "references"), limited),
    date: isoDate(valueOf(fields, "date")),
    subject: decode(valueOf(fields, "subject") ?? ""),
    from: list("from")[0] ?? null,
    sender: list("sender")[0] ?? null,
    replyTo: list("reply-to"),
    to: list("to"),
    cc: list("cc"),
    bcc: list("bcc"),
    headers: fields.map(({ name, value }): [string, string] => [name, decode(value)]),
    automatic: automaticSign(fields),
  };
}
