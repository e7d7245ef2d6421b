/** The record of a delivery before its first attempt. */
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";

export function newDelivery(
  { retryHours }: { retryHours: number },
  mailbox: Mailbox,
  message: Pick<Delivery, "id" | "ref" | "flags">,
): Delivery {
  const now = new Date();
  return {
    ...message,
    mailbox: mailbox.id,
    endpoint: new URL(mailbox.deliver.url).origin,
    state: "retrying",
    attempts: [],
    attemptCount: 0,
    createdAt: now.toISOString(),
    giveUpAt: new Date(now.getTime() + retryHours * 3_600_000).toISOString(),
    updatedAt: now.toISOString(),
    nextAttemptAt: null,
    reason: null,
    spooled: false,
  };
}
