/** The body of a request to send: the parts of a message, or a ready message. */
import * as v from "valibot";
import { DsnRequest } from "./sending.ts";

/** Text for a header. A line break or NUL would begin another header, or end the message on some servers. */
const line = (max: number) =>
  v.pipe(v.string(), v.maxLength(max), v.regex(/^[^\r\n\0]*$/, "must not contain line breaks or NUL"));
const text = v.pipe(v.string(), v.regex(/^[^\0]*$/, "must not contain NUL"));
const base64 = v.pipe(v.string(), v.regex(/^[A-Za-z0-9+/\s]*(?:=\s*){0,2}$/, "must be base64"));

/** `{ name, address }`, or both in one text: `Ann <ann@example.com>`. */
const AddressInput = v.union(
  [v.strictObject({ name: v.optional(line(256)), address: line(320) }), line(600)],
  "must be { name, address } or a text with one address",
);
export type AddressInput = v.InferOutput<typeof AddressInput>;

const recipients = v.optional(
  v.pipe(v.array(AddressInput), v.maxLength(500, "must name at most 500 recipients")),
  () => [],
);

const MessageId = v.pipe(
  line(998),
  v.regex(/^<[^\s<>@]+@[^\s<>@]+>$/, "must be a message id in angle brackets, such as <1@example.com>"),
);

/** The id of a received message, exactly as it was delivered: it may have no `@`, or two. */
const ReceivedMessageId = v.pipe(
  line(998),
  v.regex(/^<[^\s<>]+>$/, "must be a message id in angle brackets, as it was delivered"),
);

/**
 * `content` is base64. With a `contentId` the HTML can show the file as `cid:...`. A calendar (text/calendar) with a
 * METHOD is sent as an invitation beside the text, unless `disposition` is attachment.
 */
const File = v.strictObject({
  filename: v.optional(line(255)),
  contentType: v.optional(
    v.pipe(
      line(255),
      v.regex(
        /^(?!multipart\/)[A-Za-z0-9!#$&^_.+-]+\/[A-Za-z0-9!#$&^_.+-]+(\s*;\s*[A-Za-z0-9_-]+=([A-Za-z0-9!#$&^_.+-]+|"[^"\\]*"))*$/i,
        "must be a media type such as application/pdf",
      ),
    ),
  ),
  contentId: v.optional(
    v.pipe(
      line(255),
      v.regex(/^[!-~]+$/, "must be plain ASCII"),
      v.regex(/^[^<>"\\]+$/, "comes without angle brackets or quotes"),
    ),
  ),
  disposition: v.optional(v.picklist(["attachment", "inline"])),
  content: base64,
});

/** A header name is a token of RFC 5322 section 3.6.8. */
const Headers = v.record(
  v.pipe(v.string(), v.maxLength(76), v.regex(/^[!-9;-~]+$/, "must be a header name")),
  v.union([line(8192), v.pipe(v.array(line(8192)), v.maxLength(50))], "must be a text, or a list of them"),
);

/**
 * What to send. Either the parts of a message, or `raw`: a whole RFC 822 message in base64. The recipients of `raw` are
 * its own To, Cc and Bcc, unless the request gives some. `dsn` asks servers for delivery notifications (RFC 3461),
 * `notify` asks for a webhook about the result, `sendAt` sends later.
 */
export const OutgoingMessage = v.strictObject({
  from: v.optional(AddressInput),
  to: recipients,
  cc: recipients,
  bcc: recipients,
  replyTo: v.optional(v.union([AddressInput, v.pipe(v.array(AddressInput), v.maxLength(20))])),
  subject: v.optional(line(2000)),
  text: v.optional(text),
  html: v.optional(text),
  attachments: v.optional(v.pipe(v.array(File), v.maxLength(500)), () => []),
  headers: v.optional(Headers, () => ({})),
  messageId: v.optional(MessageId),
  inReplyTo: v.optional(ReceivedMessageId),
  references: v.optional(v.pipe(v.array(ReceivedMessageId), v.maxLength(200))),
  importance: v.optional(v.picklist(["low", "normal", "high"])),
  raw: v.optional(base64),
  sendAt: v.optional(v.pipe(v.string(), v.isoTimestamp("must be an ISO 8601 date and time"))),
  dsn: v.optional(DsnRequest),
  notify: v.optional(v.boolean()),
});
export type OutgoingMessage = v.InferOutput<typeof OutgoingMessage>;
