/** What the service itself stores with a mailbox, besides what a client registered. */
import * as v from "valibot";

/** The mail server does not deliver messages that it has: the first of them, and the reason. */
export const DownloadFault = v.object({
  folder: v.string(),
  uid: v.number(),
  code: v.string(),
  cause: v.string(),
  evidence: v.nullable(v.string()),
});
export type DownloadFault = v.InferOutput<typeof DownloadFault>;

export const learnedEntries = {
  /** A person's answer to `confirm`. Until that time the messages of renumbered folders are delivered, or passed over. */
  confirmed: v.exactOptional(v.object({ deliver: v.boolean(), until: v.string() })),
  /** Messages that a worker could not download; absent when there are none. */
  downloads: v.exactOptional(DownloadFault),
  /** The last state that the endpoint accepted, for dialects with callbacks. */
  told: v.exactOptional(v.string()),
  /**
   * When a CRM closed the mailbox. It is kept for some days, without its passwords, because the CRM may open it again.
   */
  closedAt: v.exactOptional(v.string()),
  /** The server that puts sent messages into the Sent folder by itself, as a worker saw. */
  sentFiledBy: v.exactOptional(v.string()),
};

const CLOSED_WAIT_MS = 15 * 60_000;

/**
 * When the service checks again whether a closed mailbox was opened. Until then its remaining work waits, because it
 * has no password. Undefined if the mailbox is not closed.
 */
export function getClosedUntil({ closedAt }: { closedAt?: string }): Date | undefined {
  return closedAt === undefined ? undefined : new Date(Date.now() + CLOSED_WAIT_MS);
}
