/** Opens a mailbox by its protocol; a protocol without an entry here does not compile. */
import type { Mailbox, Protocol } from "../contract/mailbox.ts";
import { mailboxOf } from "./defaults.ts";
import { ewsConnection, type EwsConnectionDeps } from "./ews/ews.ts";
import { preflight as ewsPreflight } from "./ews/preflight.ts";
import { type ImapDeps } from "./imap/client.ts";
import { imapConnection } from "./imap/imap.ts";
import { preflight as imapPreflight } from "./imap/preflight.ts";
import type { MailConnection, PreflightReport, PreflightStep } from "./mail.ts";
import { pop3Connection, type Pop3ConnectionDeps } from "./pop3/pop3.ts";
import { preflight as pop3Preflight } from "./pop3/preflight.ts";
import { sendStep } from "./sending.ts";

export type MailDeps = ImapDeps & Pop3ConnectionDeps & EwsConnectionDeps;

type OpenMailbox = (deps: MailDeps, mailbox: Mailbox) => MailConnection;
type Preflight = (deps: MailDeps, mailbox: Mailbox, signal: AbortSignal) => Promise<PreflightReport>;

/** How each protocol is received; nothing connects before the first call on what it returns. */
export const openMailbox: Record<Protocol, OpenMailbox> = {
  imap: (deps, mailbox) => imapConnection(deps, mailboxOf(mailbox, "imap")),
  pop3: (deps, mailbox) => pop3Connection(deps, mailboxOf(mailbox, "pop3")),
  ews: (deps, mailbox) => ewsConnection(deps, mailboxOf(mailbox, "ews")),
};

/** How each protocol's settings are tried out. */
export const preflights: Record<Protocol, Preflight> = {
  imap: (deps, mailbox, signal) => imapPreflight(deps, mailboxOf(mailbox, "imap"), signal),
  pop3: (deps, mailbox, signal) => pop3Preflight(deps, mailboxOf(mailbox, "pop3"), signal),
  ews: (deps, mailbox, signal) => ewsPreflight(deps, mailboxOf(mailbox, "ews"), signal),
};

/** Tries out all of a mailbox: how it is received and, where it sends, the login for that. */
export async function tryOut(deps: MailDeps, mailbox: Mailbox, signal: AbortSignal): Promise<PreflightReport> {
  const { ok, steps } = await preflights[mailbox.receive.protocol](deps, mailbox, signal);
  if (!mailbox.send) return { ok, steps };
  const sending = !ok && isOneLogin(mailbox) ? NOT_TRIED : await sendStep(deps, mailbox, signal);
  return { ok: ok && sending.ok, steps: [...steps, sending] };
}

const NOT_TRIED: PreflightStep = {
  name: "send",
  ok: false,
  ms: 0,
  cause: "Not tried: it goes the same way as receiving, which failed",
  fix: "Mend the step that failed first.",
};

/** Directories behind Exchange lock accounts after a few wrong passwords, so one that was refused is not shown again. */
function isOneLogin({ receive, send }: Mailbox): boolean {
  return receive.protocol === "ews" && send?.protocol !== "smtp" && !send?.auth;
}
