/** An outgoing message: the request, the recipients, and the result for each of them. */
import * as v from "valibot";
import { BounceReason } from "./received.ts";

/**
 * queued: not sent yet, it is tried again until `giveUpAt`; sent: the mail server accepted it; failed: refused for
 * good, or the attempts ended; unknown: it was handed over and the answer was lost, so it may have arrived and is never
 * sent again; bounced: accepted, and returned later.
 */
export const SendState = v.picklist(["queued", "sent", "failed", "unknown", "bounced"]);
export type SendState = v.InferOutput<typeof SendState>;

/**
 * `response` is the mail server's own reply about this recipient, null before there is one. `bounceReason` is set once
 * the message bounced. `receipt` is set once a read receipt arrived: its disposition, such as displayed, and when it
 * was received.
 */
export const Recipient = v.object({
  address: v.string(),
  state: SendState,
  response: v.nullable(v.string()),
  bounceReason: v.optional(BounceReason),
  receipt: v.optional(v.object({ disposition: v.nullable(v.string()), at: v.string() })),
});
export type Recipient = v.InferOutput<typeof Recipient>;

/** For which events the sender wants delivery notifications from servers (RFC 3461). */
export const DsnRequest = v.strictObject({
  notify: v.optional(v.array(v.picklist(["success", "failure", "delay"])), () => ["failure" as const]),
  return: v.optional(v.picklist(["headers", "full"]), "headers"),
});
export type DsnRequest = v.InferOutput<typeof DsnRequest>;

/**
 * A stored sending. Its RFC 822 bytes are stored beside it and are the same for every attempt. `revision` grows with
 * every change, and a change of an older revision is refused. `transmitting` holds the addresses for which the end of
 * the message was about to leave; if a crash leaves some there, nobody knows their result. `copy` is what is left to do
 * about the copy in the Sent folder. `serverMessageId` is the Message-ID that a provider put in place of the original.
 * `contentHash` tells whether a repeated request with the same key has the same content; it is empty without a key.
 */
export const Sending = v.object({
  id: v.string(),
  mailbox: v.string(),
  revision: v.number(),
  key: v.nullable(v.string()),
  contentHash: v.string(),
  state: SendState,
  messageId: v.string(),
  serverMessageId: v.nullable(v.string()),
  from: v.string(),
  recipients: v.array(Recipient),
  transmitting: v.array(v.string()),
  size: v.number(),
  dsn: v.nullable(DsnRequest),
  notify: v.boolean(),
  /** The task that tells the endpoint about the end is in the queue. */
  told: v.boolean(),
  copy: v.picklist(["none", "wanted", "done"]),
  attempts: v.number(),
  reason: v.nullable(v.string()),
  createdAt: v.string(),
  updatedAt: v.string(),
  sendAt: v.string(),
  /** After this time a failed attempt is the last one. */
  giveUpAt: v.string(),
  nextAttemptAt: v.nullable(v.string()),
  sentAt: v.nullable(v.string()),
});
export type Sending = v.InferOutput<typeof Sending>;

/** From the state that needs most attention to the one that needs least. */
const STATE_PRIORITY: SendState[] = ["queued", "unknown", "bounced", "failed", "sent"];

/** The state of a whole sending: queued while any recipient is queued, otherwise the worst state of its recipients. */
export function overallState(recipients: Pick<Recipient, "state">[]): SendState {
  return STATE_PRIORITY.find((state) => recipients.some((one) => one.state === state)) ?? "failed";
}

/** The events of a sending that an endpoint may get. */
export const SendEvent = v.picklist(["sent", "failed", "unknown", "bounced"]);
export type SendEvent = v.InferOutput<typeof SendEvent>;

/** A sending as the API and webhooks show it. */
export const SendingView = v.omit(Sending, [
  "revision",
  "contentHash",
  "transmitting",
  "copy",
  "dsn",
  "notify",
  "told",
]);
export type SendingView = v.InferOutput<typeof SendingView>;

/** The part of a sending that is shown. */
export function toSendingView(sending: Sending): SendingView {
  return v.parse(SendingView, sending);
}

/** The JSON body of webhooks about a sending. `recipient` is whom a bounce concerns. */
export const MessageSent = v.object({
  type: v.picklist(["message.sent", "message.failed", "message.unknown", "message.bounced"]),
  timestamp: v.string(),
  data: v.object({ ...SendingView.entries, recipient: v.nullable(v.string()) }),
});
export type MessageSent = v.InferOutput<typeof MessageSent>;
