/** One message on its way to one endpoint, with its attempts. */
import * as v from "valibot";
import { MessageRef } from "./message.ts";

export const DeliveryState = v.picklist(["retrying", "parked", "delivered"]);
export type DeliveryState = v.InferOutput<typeof DeliveryState>;

/** One POST. `status` is the HTTP status, null without an answer; `problem` says what failed, null on success. */
export const Attempt = v.object({
  at: v.string(),
  ms: v.number(),
  status: v.nullable(v.number()),
  problem: v.nullable(v.string()),
});
export type Attempt = v.InferOutput<typeof Attempt>;

/**
 * What the record of a delivery keeps of its message: decoded and shortened, `from` as "Name <address>" or the
 * one that there is, `messageId` without angle brackets. A message without one of them has null.
 */
export const MessageSummary = v.object({
  subject: v.nullable(v.string()),
  from: v.nullable(v.string()),
  messageId: v.nullable(v.string()),
});
export type MessageSummary = v.InferOutput<typeof MessageSummary>;

/**
 * A stored delivery. `id` is the webhook-id. It is derived from mailbox and content, so it stays the same over retries,
 * restarts and renumbered folders. `nextAttemptAt` is set while retrying. `reason` says why it is retrying or parked, or
 * why the mail server's copy of a delivered message was left as it is. Retrying and parked deliveries have their raw
 * bytes in the spool. At most 50 attempts are kept, the first and the last ones. A parked delivery is not attempted any
 * more, until a person replays it.
 */
export const Delivery = v.object({
  id: v.string(),
  mailbox: v.string(),
  endpoint: v.string(),
  ref: MessageRef,
  flags: v.array(v.string()),
  state: DeliveryState,
  attempts: v.array(Attempt),
  attemptCount: v.number(),
  createdAt: v.string(),
  /** After this time a failed attempt is the last one. */
  giveUpAt: v.string(),
  updatedAt: v.string(),
  nextAttemptAt: v.nullable(v.string()),
  reason: v.nullable(v.string()),
  spooled: v.boolean(),
  /** Of a message in parts: the parts that the endpoint has accepted. They are not posted again. */
  acceptedParts: v.exactOptional(v.array(v.string())),
  /** What the mail server does not give of the message, in words. The bytes are without it. */
  leftOut: v.exactOptional(v.array(v.string())),
  /** When a subscription saw the message; unknown of one that a resync found. */
  seenAt: v.exactOptional(v.string()),
  /** Unknown of a message that was never read, of records of earlier versions, and with KEEP_SUBJECTS=off. */
  message: v.exactOptional(MessageSummary),
});
export type Delivery = v.InferOutput<typeof Delivery>;
