/** One message on its way to one endpoint, with its attempts. */
import * as v from "valibot";
import { MessageRef } from "./message.ts";

export const DeliveryState = v.picklist(["retrying", "parked", "delivered"]);
export type DeliveryState = v.InferOutput<typeof DeliveryState>;

/** One POST: `status` is the HTTP status, null when none came; `problem` says what failed, null on success. */
export const Attempt = v.object({
  at: v.string(),
  ms: v.number(),
  status: v.nullable(v.number()),
  problem: v.nullable(v.string()),
});
export type Attempt = v.InferOutput<typeof Attempt>;

/**
 * A delivery the store remembers. `id` is the webhook-id: derived from mailbox and content, so it is the same over
 * retries, restarts and renumbered folders. `nextAttemptAt` is set while retrying; `reason` while retrying or parked.
 * Retrying and parked deliveries have their raw bytes in the spool. At most 50 attempts are kept, the first and the last.
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
  /** Past this time a failed attempt is the last one. */
  giveUpAt: v.string(),
  updatedAt: v.string(),
  nextAttemptAt: v.nullable(v.string()),
  reason: v.nullable(v.string()),
  spooled: v.boolean(),
  /** Of a message that is delivered in parts: those the endpoint has accepted. They are not posted again. */
  acceptedParts: v.exactOptional(v.array(v.string())),
});
export type Delivery = v.InferOutput<typeof Delivery>;
