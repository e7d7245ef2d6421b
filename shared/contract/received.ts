/** What an endpoint receives: one parsed message, and the envelope the webhook dialect puts around it. */
import * as v from "valibot";

const Party = v.object({ name: v.string(), address: v.string() });
export type Party = v.InferOutput<typeof Party>;

/** `content` is base64; null when it was left out (see `limited`). `contentId` comes without angle brackets. */
export const Attachment = v.object({
  filename: v.nullable(v.string()),
  contentType: v.string(),
  size: v.number(),
  contentId: v.nullable(v.string()),
  disposition: v.nullable(v.string()),
  content: v.nullable(v.string()),
});
export type Attachment = v.InferOutput<typeof Attachment>;

/** What a notification says of one recipient. */
const Reported = v.object({
  recipient: v.nullable(v.string()),
  action: v.nullable(v.string()),
  status: v.nullable(v.string()),
  diagnostic: v.nullable(v.string()),
});

/**
 * A delivery status notification (RFC 3464), a complaint (RFC 5965, action `complaint`), or a bounce in a mail server's own words (qmail,
 * Exim), as far as it can be read: the first failed recipient, and all of them in `recipients`.
 */
export const Bounce = v.object({
  action: v.nullable(v.string()),
  status: v.nullable(v.string()),
  recipient: v.nullable(v.string()),
  diagnostic: v.nullable(v.string()),
  originalMessageId: v.nullable(v.string()),
  recipients: v.array(Reported),
});
export type Bounce = v.InferOutput<typeof Bounce>;

/** The first text/calendar part (RFC 5546, RFC 6047). */
export const Calendar = v.object({ method: v.nullable(v.string()), uid: v.nullable(v.string()), content: v.string() });

/** One message, parsed. Dates are ISO 8601 UTC, or null where the message has none that can be read. */
export const ParsedMessage = v.object({
  messageId: v.nullable(v.string()),
  inReplyTo: v.nullable(v.string()),
  references: v.array(v.string()),
  date: v.nullable(v.string()),
  subject: v.string(),
  from: v.nullable(Party),
  sender: v.nullable(Party),
  replyTo: v.array(Party),
  to: v.array(Party),
  cc: v.array(Party),
  bcc: v.array(Party),
  text: v.nullable(v.string()),
  html: v.nullable(v.string()),
  /** In order, names in lower case, values unfolded and decoded. */
  headers: v.array(v.tuple([v.string(), v.string()])),
  attachments: v.array(Attachment),
  /** RFC 3834 and its relatives: who or what wrote this. */
  automatic: v.nullable(v.picklist(["auto-replied", "auto-generated", "bulk"])),
  bounce: v.nullable(Bounce),
  calendar: v.nullable(Calendar),
  /** S/MIME or PGP content is delivered as it is, never opened. */
  encrypted: v.nullable(v.picklist(["smime", "pgp"])),
  /** What was left out and why, null when nothing was. */
  limited: v.nullable(v.array(v.string())),
});
export type ParsedMessage = v.InferOutput<typeof ParsedMessage>;

/** The JSON body of dialect webhook, formats full and headers (the latter with text, html and attachment contents null). */
export const MessageReceived = v.object({
  type: v.literal("message.received"),
  timestamp: v.string(),
  data: v.object({
    deliveryId: v.string(),
    mailbox: v.object({ id: v.string(), address: v.string() }),
    folder: v.string(),
    uid: v.number(),
    uidValidity: v.string(),
    receivedAt: v.string(),
    size: v.number(),
    flags: v.array(v.string()),
    ...ParsedMessage.entries,
  }),
});
export type MessageReceived = v.InferOutput<typeof MessageReceived>;

/** Which part of a message a body brings: `index` of `count` parts counted from 0; `size` in bytes of its decoded content. */
export const PartShown = v.object({
  index: v.number(),
  count: v.number(),
  kind: v.picklist(["body", "attachment"]),
  contentType: v.string(),
  filename: v.nullable(v.string()),
  size: v.number(),
});
export type PartShown = v.InferOutput<typeof PartShown>;

/**
 * The JSON body where `deliver.split` is set: one for each part. `data` is that of the message; the body has its attachments by name
 * only, an attachment has no text and itself in `attachments`. All parts of a message share `data.deliveryId`.
 */
export const MessagePart = v.object({
  type: v.literal("message.part"),
  timestamp: v.string(),
  part: PartShown,
  data: MessageReceived.entries.data,
});
export type MessagePart = v.InferOutput<typeof MessagePart>;
