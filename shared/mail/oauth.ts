/** OAuth2 access tokens for mailboxes: fetched when needed, kept until a minute before they expire. */
import type { Mailbox } from "../contract/mailbox.ts";
import type { Secret } from "../contract/secret.ts";

export interface Tokens {
  /** A token that is valid for at least a minute. Throws `token` (retry never) when the grant is no longer valid. */
  access(mailbox: Mailbox, signal: AbortSignal): Promise<Secret>;
  /** Drops the cached token of a mailbox, because the mail server refused it. */
  forget(mailbox: string): void;
}
