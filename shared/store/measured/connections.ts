/** What is known of the connection of each mailbox's subscription, written by the node that holds it. */
import type { ConnectionFacts } from "../../contract/learned.ts";

export interface Connections {
  /** Writes the facts of these mailboxes in the place of earlier ones. Mailboxes that are gone are ignored. */
  save(entries: readonly { mailbox: string; facts: ConnectionFacts }[]): Promise<void>;
  /** Undefined if the mailbox was never connected. */
  read(mailbox: string): Promise<ConnectionFacts | undefined>;
}
