/** What a mailbox means where it says nothing: the ports of its protocol, and what happens to delivered messages. */
import type { AfterDelivery, Mailbox, MailboxOf, Protocol, Receive } from "../contract/mailbox.ts";
import { Problem } from "../contract/problem.ts";

/** With TLS from the first byte, and otherwise (RFC 8314 section 7.3, and those of HTTP). */
const PORTS: Record<Protocol, [implicit: number, plain: number]> = {
  imap: [993, 143],
  pop3: [995, 110],
  ews: [443, 80],
};

/** The port to connect to, where the mailbox names a host. */
export function portOf({ protocol, port, tls }: Pick<Receive, "protocol" | "port" | "tls">): number {
  const [implicit, plain] = PORTS[protocol];
  return port ?? (tls === "implicit" ? implicit : plain);
}

/** True where mail is looked for from time to time, rather than waited for on an open connection. */
export function isPolled(receive: Receive): boolean {
  return receive.mode === "poll";
}

/** What is done with a delivered message: nothing, unless the mailbox says so or is polled, where it is marked as read if the protocol can. */
export function afterDeliveryOf(receive: Receive): AfterDelivery {
  return receive.afterDelivery ?? (receive.protocol !== "pop3" && isPolled(receive) ? "markRead" : "leave");
}

/** The mailbox as one of this protocol; whoever opens it by its protocol's table has the right one. */
export function mailboxOf<P extends Protocol>(mailbox: Mailbox, protocol: P): MailboxOf<P> {
  if (mailbox.receive.protocol === protocol) return mailbox as MailboxOf<P>;
  throw new Problem("internal", `The mailbox ${mailbox.id} is not received by ${protocol}`, { retry: "never" });
}
