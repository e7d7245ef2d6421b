/** A message on its way out: what was asked for, who gets it, and what became of it for each of them. */
import * as v from "valibot";

/**
 * queued: not sent yet, it is tried again until `giveUpAt`; sent: the mail server took it; failed: refused for good, or given
 * up; unknown: it was handed over and the answer was lost, so it may have arrived and is never sent again by itself;
 * bounced: taken, and returned later.
 */
export const SendState = v.picklist(["queued", "sent", "failed", "unknown", "bounced"]);
export type SendState = v.InferOutput<typeof SendState>;

/** `response` is the mail server's own words about this recipient, null before it said any. */
export const Recipient = v.object({ address: v.string(), state: SendState, response: v.nullable(v.string()) });
export type Recipient = v.InferOutput<typeof Recipient>;

/** What the sender wants to be told by the servers on the way (RFC 3461). */
export const StatusWish = v.strictObject({
  notify: v.optional(v.array(v.picklist(["success", "failure", "delay"])), () => ["failure" as const]),
  return: v.optional(v.picklist(["headers", "full"]), "headers"),
});
export type StatusWish = v.InferOutput<typeof StatusWish>;

/**
 * A sending as the store keeps it; its RFC 822 bytes lie beside it, the same for every attempt. `revision` grows with every
 * change, and a change is refused when it is not made to the newest one. `transmitting` holds the addresses whose message was
 * about to be ended on the wire: when a crash leaves some there, nobody knows what became of those. `copy` is what is left to do
 * about the copy in the Sent folder. `serverMessageId` is the Message-ID a provider put in place of ours. `contentHash` tells what
 * comes again under one key from other content, and is empty where there is no key.
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
  dsn: v.nullable(StatusWish),
  notify: v.boolean(),
  /** The notice of its end is in the queue. */
  told: v.boolean(),
  copy: v.picklist(["none", "wanted", "done"]),
  attempts: v.number(),
  reason: v.nullable(v.string()),
  createdAt: v.string(),
  updatedAt: v.string(),
  sendAt: v.string(),
  /** Past this time a failed attempt is the last one. */
  giveUpAt: v.string(),
  nextAttemptAt: v.nullable(v.string()),
  sentAt: v.nullable(v.string()),
});
export type Sending = v.InferOutput<typeof Sending>;

/** From the state that needs most attention to the one that needs least. */
const WORST_FIRST: SendState[] = ["queued", "unknown", "bounced", "failed", "sent"];

/** The state of a sending as a whole: queued while any recipient is, else the worst that befell one of them. */
export function wholeState(recipients: Pick<Recipient, "state">[]): SendState {
  return WORST_FIRST.find((state) => recipients.some((one) => one.state === state)) ?? "failed";
}

/** What may be told to an endpoint about a sending. */
export const SendEvent = v.picklist(["sent", "failed", "unknown", "bounced"]);
export type SendEvent = v.InferOutput<typeof SendEvent>;

/** A sending as answers and webhooks show it. */
export const SendingShown = v.omit(Sending, [
  "revision",
  "contentHash",
  "transmitting",
  "copy",
  "dsn",
  "notify",
  "told",
]);
export type SendingShown = v.InferOutput<typeof SendingShown>;

/** The part of a sending that is shown. */
export function shownSending(sending: Sending): SendingShown {
  return v.parse(SendingShown, sending);
}

/** The JSON body of the webhooks about sending. `recipient` is who a bounce is about. */
export const MessageSent = v.object({
  type: v.picklist(["message.sent", "message.failed", "message.unknown", "message.bounced"]),
  timestamp: v.string(),
  data: v.object({ ...SendingShown.entries, recipient: v.nullable(v.string()) }),
});
export type MessageSent = v.InferOutput<typeof MessageSent>;
