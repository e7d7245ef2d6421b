/** Opens a mailbox by its protocol; a protocol without an entry here does not compile. */
import type { Mailbox, Receive } from "../contract/mailbox.ts";
import { type ImapDeps } from "./imap/client.ts";
import { imapConnection } from "./imap/imap.ts";
import { preflight } from "./imap/preflight.ts";
import type { MailConnection, PreflightReport } from "./mail.ts";

export type Protocol = Receive["protocol"];
export type MailDeps = ImapDeps;

type OpenMailbox = (deps: MailDeps, mailbox: Mailbox) => MailConnection;
type Preflight = (deps: MailDeps, mailbox: Mailbox, signal: AbortSignal) => Promise<PreflightReport>;

/** How each protocol is received; nothing connects before the first call on what it returns. */
export const openMailbox: Record<Protocol, OpenMailbox> = { imap: imapConnection };

/** How each protocol's settings are tried out. */
export const preflights: Record<Protocol, Preflight> = { imap: preflight };
