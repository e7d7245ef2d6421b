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
  /** The server that puts no sent messages there, as a worker saw at this time, minutes after it had put its own copy there. */
  sentNotFiledBy: v.exactOptional(v.object({ server: v.string(), at: v.string() })),
};

const TlsFacts = v.object({
  version: v.pipe(v.string(), v.description("The version of TLS, such as TLSv1.3.")),
  certificateEndsAt: v.pipe(v.nullable(v.string()), v.description("When the server's certificate ends.")),
});
export type TlsFacts = v.InferOutput<typeof TlsFacts>;

const TokenFacts = v.object({
  endsAt: v.pipe(v.string(), v.description("When the token ends.")),
  renewsAt: v.pipe(v.string(), v.description("The next request or login after this time takes a new one.")),
});
export type TokenFacts = v.InferOutput<typeof TokenFacts>;

/** What is known of the connection of a mailbox's subscription. */
export const ConnectionFacts = v.object({
  server: v.pipe(
    v.nullable(v.string()),
    v.description("Name and version of the server as it says them, else its greeting. Null if it says nothing."),
  ),
  capabilities: v.pipe(
    v.array(v.string()),
    v.description("What it offers by CAPABILITY (IMAP) or CAPA (POP3). Empty for other protocols."),
  ),
  tls: v.pipe(v.nullable(TlsFacts), v.description("How the connection is encrypted. Null if it is not.")),
  token: v.pipe(
    v.nullable(TokenFacts),
    v.description("The OAuth2 token of the login. Null if the service fetches none for it."),
  ),
  since: v.pipe(v.string(), v.description("From when on all this has been so.")),
});
export type ConnectionFacts = v.InferOutput<typeof ConnectionFacts>;
/** What a mail server said of itself on the last connection. */
export type ServerFacts = Pick<ConnectionFacts, "server" | "capabilities" | "tls">;

const CLOSED_WAIT_MS = 15 * 60_000;

/**
 * When the service checks again whether a closed mailbox was opened. Until then its remaining work waits, because it
 * has no password. Undefined if the mailbox is not closed.
 */
export function getClosedUntil({ closedAt }: { closedAt?: string }): Date | undefined {
  return closedAt === undefined ? undefined : new Date(Date.now() + CLOSED_WAIT_MS);
}
