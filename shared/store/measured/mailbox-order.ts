/** Orders in which mailboxes can be listed, each by an index of the store. */
import type { MailboxStatus } from "../../contract/mailbox.ts";

/** `state`: those that need somebody first. `lastMail`: the newest message first, and last those without any. */
export const MAILBOX_ORDERS = ["state", "lastMail"] as const;
export type MailboxOrder = (typeof MAILBOX_ORDERS)[number];

/** `after` is the `place` of an earlier mailbox; `limit` is 1 to 1,000. */
export type OrderedQuery = { order: MailboxOrder; limit: number; after?: string };

export interface OrderedMailboxes {
  /**
   * The ids of all mailboxes in an order. `place` is opaque and says where the list goes on after this one. A mailbox
   * whose state changes meanwhile may be missing, or be there twice.
   */
  list(query: OrderedQuery): Promise<{ id: string; place: string }[]>;
}

/** The statuses in the order of `state`. */
export const STATUS_ORDER: readonly MailboxStatus[] = [
  "needs_attention",
  "reconnecting",
  "throttled",
  "initializing",
  "syncing",
  "polling",
  "listening",
  "paused",
];
