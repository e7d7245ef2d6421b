/** What an endpoint receives: one parsed message, and the JSON around it. */
import * as v from "valibot";

const NamedAddress = v.object({ name: v.string(), address: v.string() });
export type NamedAddress = v.InferOutput<typeof NamedAddress>;

/** `content` is base64, or null when it was left out (see `limited`). `contentId` has no angle brackets. */
export const Attachment = v.object({
  filename: v.nullable(v.string()),
  contentType: v.string(),
  size: v.number(),
  contentId: v.nullable(v.string()),
  /** Set if the HTML refers to the file by its location instead of its id (RFC 2557), as in web pages saved as mail. */
  contentLocation: v.nullable(v.string()),
  disposition: v.nullable(v.string()),
  content: v.nullable(v.string()),
});
export type Attachment = v.InferOutput<typeof Attachment>;

/**
 * Why a message was not delivered, by the status code and the mail server's words. user_unknown: the address does not
 * exist; mailbox_full; mailbox_disabled: the mailbox exists but accepts no mail; host_unknown: the domain does not
 * exist or accepts no mail; too_large; blocked: the sender's address or server is blocked or has a bad reputation;
 * spam: the content looked like spam or a virus; authentication: SPF, DKIM or DMARC failed; policy: another rule of the
 * receiving side; temporary: a network, load or time problem, so a later message may arrive; server_error: a fault of a
 * mail server, such as a loop; complaint: the recipient reported the message as spam; unknown: the notification gives
 * no readable reason.
 */
export const BounceReason = v.picklist([
  "user_unknown",
  "mailbox_full",
  "mailbox_disabled",
  "host_unknown",
  "too_large",
  "blocked",
  "spam",
  "authentication",
  "policy",
  "temporary",
  "server_error",
  "complaint",
  "unknown",
]);
export type BounceReason = v.InferOutput<typeof BounceReason>;

/**
 * What a notification says about one recipient. `reason` is null if nothing failed (action delivered, relayed,
 * expanded).
 */
const ReportedRecipient = v.object({
  recipient: v.nullable(v.string()),
  action: v.nullable(v.string()),
  status: v.nullable(v.string()),
  diagnostic: v.nullable(v.string()),
  reason: v.nullable(BounceReason),
});

/**
 * A delivery status notification (RFC 3464), a complaint (RFC 5965, action `complaint`), or a notification in a mail
 * server's own words (qmail, Exim), as far as the service can read it. It has the first recipient, and all of them in
 * `recipients`.
 */
export const Bounce = v.object({
  ...ReportedRecipient.entries,
  originalMessageId: v.nullable(v.string()),
  recipients: v.array(ReportedRecipient),
});
export type Bounce = v.InferOutput<typeof Bounce>;

/** A read receipt (RFC 8098). `disposition` is its type in lower case, such as displayed, deleted, dispatched or processed. */
export const Receipt = v.object({
  originalMessageId: v.nullable(v.string()),
  disposition: v.nullable(v.string()),
  recipient: v.nullable(v.string()),
});
export type Receipt = v.InferOutput<typeof Receipt>;

/** `status` and `role` are PARTSTAT and ROLE of RFC 5545 in upper case, such as ACCEPTED and REQ-PARTICIPANT. */
export const CalendarAttendee = v.object({
  ...NamedAddress.entries,
  status: v.nullable(v.string()),
  role: v.nullable(v.string()),
});
export type CalendarAttendee = v.InferOutput<typeof CalendarAttendee>;

/**
 * One entry of a calendar (RFC 5545, RFC 5546, RFC 6047). `start`, `end` and `recurrenceId` are ISO 8601: in UTC if the
 * service knows the time zone, a date for whole days, a time without an offset if the zone is unknown. `content` is the
 * whole calendar with the entry.
 */
export const Calendar = v.object({
  method: v.nullable(v.string()),
  uid: v.nullable(v.string()),
  sequence: v.nullable(v.number()),
  start: v.nullable(v.string()),
  end: v.nullable(v.string()),
  organizer: v.nullable(NamedAddress),
  attendees: v.array(CalendarAttendee),
  recurrenceId: v.nullable(v.string()),
  content: v.string(),
});
export type Calendar = v.InferOutput<typeof Calendar>;

/** An attachment as the parser gives it. In the JSON for an endpoint its bytes are in base64. */
const ParsedAttachment = v.object({
  ...Attachment.entries,
  content: v.nullable(v.custom<Uint8Array>((value) => value instanceof Uint8Array)),
});

/** One parsed message. Dates are ISO 8601 UTC, or null if the message has no readable date. */
export const ParsedMessage = v.object({
  messageId: v.nullable(v.string()),
  inReplyTo: v.nullable(v.string()),
  references: v.array(v.string()),
  date: v.nullable(v.string()),
  subject: v.string(),
  from: v.nullable(NamedAddress),
  sender: v.nullable(NamedAddress),
  replyTo: v.array(NamedAddress),
  to: v.array(NamedAddress),
  cc: v.array(NamedAddress),
  bcc: v.array(NamedAddress),
  text: v.nullable(v.string()),
  html: v.nullable(v.string()),
  /** What the sender wrote, without quotations and signatures. Null if the service is not sure. */
  reply: v.nullable(v.string()),
  /** In order, names in lower case, values unfolded and decoded. */
  headers: v.array(v.tuple([v.string(), v.string()])),
  attachments: v.array(ParsedAttachment),
  /** Whether a machine wrote this (RFC 3834 and similar headers). */
  automatic: v.nullable(v.picklist(["auto-replied", "auto-generated", "bulk"])),
  /** Recipients whose message failed, and complaints. Null if a notification reports no failure. */
  bounce: v.nullable(Bounce),
  /** Recipients of a notification with any other action: delayed, delivered, relayed, expanded. */
  delay: v.nullable(Bounce),
  receipt: v.nullable(Receipt),
  /** The first of `calendars`. */
  calendar: v.nullable(Calendar),
  /** All entries of all calendars, invitations (text/calendar) first. */
  calendars: v.array(Calendar),
  /** How the sender signed the message. The service does not verify the signature. */
  signed: v.nullable(v.picklist(["smime", "pgp"])),
  /** S/MIME or PGP content is delivered as it is, without decryption. */
  encrypted: v.nullable(v.picklist(["smime", "pgp"])),
  /** What was left out and why; null when nothing was. */
  limited: v.nullable(v.array(v.string())),
});
export type ParsedMessage = v.InferOutput<typeof ParsedMessage>;

/**
 * The JSON body of the webhook dialect, formats full and headers (the latter with text, html and attachment contents
 * null).
 */
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
    /** Bytes of the message as it was delivered. */
    size: v.number(),
    flags: v.array(v.string()),
    ...ParsedMessage.entries,
    attachments: v.array(Attachment),
  }),
});
export type MessageReceived = v.InferOutput<typeof MessageReceived>;

/**
 * Which part of a message this is: number `index` of `count`, counted from 0; `size` is the bytes of its decoded
 * content.
 */
export const PartView = v.object({
  index: v.number(),
  count: v.number(),
  kind: v.picklist(["body", "attachment"]),
  contentType: v.string(),
  filename: v.nullable(v.string()),
  size: v.number(),
});
export type PartView = v.InferOutput<typeof PartView>;

/**
 * The JSON body with `deliver.split`: one for each part. `data` is the message. For the body, `attachments` has names
 * only. For an attachment there is no text, and `attachments` has only this one. All parts of a message share
 * `data.deliveryId`.
 */
export const MessagePart = v.object({
  type: v.literal("message.part"),
  timestamp: v.string(),
  part: PartView,
  data: MessageReceived.entries.data,
});
export type MessagePart = v.InferOutput<typeof MessagePart>;
