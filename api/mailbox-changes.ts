/** What every change of a mailbox has in common, whoever makes it. */
import type { Mailbox, MailboxState, MailboxStatus } from "../shared/contract/mailbox.ts";
import { credentialsLock } from "../shared/mail/oauth/tokens.ts";
import type { Secret } from "../shared/contract/secret.ts";
import { findUnreadableSecret, UnreadableSecret } from "../shared/store/sealed-mailboxes.ts";
import { clock } from "../shared/time.ts";
import type { ApiDeps } from "./deps.ts";

const LOCK_MS = 60_000;

/**
 * Reads, changes and writes a mailbox while no node can rotate its refresh token. Otherwise an old token could
 * overwrite the new one.
 */
export function withCredentialsLock<T>(
  { store }: Pick<ApiDeps, "store">,
  id: string,
  work: () => Promise<T>,
  signal: (ms: number) => AbortSignal,
): Promise<T> {
  return store.locks.hold(credentialsLock(id), { waitMs: LOCK_MS, what: "The mailbox" }, work, signal(2 * LOCK_MS));
}

/** The part of a state that a change of the mailbox, a pause or a resume resets. */
export function restartedState(mailbox: Mailbox) {
  const status: MailboxStatus = mailbox.paused ? "paused" : "initializing";
  return { status, since: new Date().toISOString(), failedLogins: 0, problem: null };
}

/** Called when a person changes or resumes a mailbox: its passwords may be sent again, even after a refusal. */
export async function allowLoginRetry(
  logins: ApiDeps["logins"],
  { failedLogins, status }: MailboxState,
  mailbox: Mailbox,
): Promise<void> {
  if (failedLogins === 0 && status !== "needs_attention") return;
  // A password that cannot be decrypted is not sent either.
  if (findUnreadableSecret(mailbox)) return;
  const { receive, send } = mailbox;
  for (const auth of [receive.auth, ...(send?.auth ? [send.auth] : [])])
    if ("password" in auth) await logins.allowRetry(auth);
}

/** Keeps what belongs to the mailbox as it was and still holds: the way before the move to Graph, and old webhook secrets. */
export function keepFormer(mailbox: Mailbox, previous: Mailbox): void {
  const { former, oldSecrets, deliver, address } = previous;
  if (former && mailbox.receive.protocol === "graph" && address === mailbox.address) mailbox.former = former;
  const isSameOrigin = new URL(deliver.url).origin === new URL(mailbox.deliver.url).origin;
  if (oldSecrets && isSameOrigin && isSameSecret(deliver.secret, mailbox.deliver.secret))
    mailbox.oldSecrets = oldSecrets;
}

function isSameSecret(one: Secret | undefined, other: Secret | undefined): boolean {
  if (!one || !other || one instanceof UnreadableSecret || other instanceof UnreadableSecret) return false;
  return one.reveal() === other.reveal();
}

/** Until when an old webhook secret signs beside the present one, for the answer about a mailbox. */
export function overlapView({ oldSecrets }: Pick<Mailbox, "oldSecrets">): { oldSecretUntil?: string } {
  const until = oldSecrets?.last.until;
  return until !== undefined && Date.parse(until) > clock.now() ? { oldSecretUntil: until } : {};
}
