/** Defaults of a mailbox: whether it is polled, and what happens to delivered messages. */
import type { AfterDelivery, Mailbox, MailboxOf, Protocol, Receive } from "../contract/mailbox.ts";
import { Problem } from "../contract/problem.ts";

/** True if the mailbox is polled. Otherwise an open connection waits for new mail. */
export function isPolled(receive: Pick<Receive, "mode">): boolean {
  return receive.mode === "poll";
}

/**
 * What happens to a delivered message. Without a setting: nothing, or markRead for a polled mailbox if its protocol
 * can.
 */
export function afterDeliveryOf(receive: Receive): AfterDelivery {
  return receive.afterDelivery ?? (receive.protocol !== "pop3" && isPolled(receive) ? "markRead" : "leave");
}

/** The mailbox, typed by its protocol. Throws if it has another protocol. */
export function narrowMailbox<P extends Protocol>(mailbox: Mailbox, protocol: P): MailboxOf<P> {
  if (mailbox.receive.protocol === protocol) return mailbox as MailboxOf<P>;
  throw new Problem("internal", `The mailbox ${mailbox.id} is not received by ${protocol}`, { retry: "never" });
}
