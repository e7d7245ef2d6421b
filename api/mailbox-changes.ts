/** What every change of a mailbox has in common, whoever makes it. */
import type { Mailbox, MailboxInput, MailboxState, MailboxStatus } from "../shared/contract/mailbox.ts";
import { credentialsLock } from "../shared/mail/oauth/tokens.ts";
import type { Secret } from "../shared/contract/secret.ts";
import { findUnreadableSecret, UnreadableSecret } from "../shared/store/sealed-mailboxes.ts";
import { clock } from "../shared/time.ts";
import type { MailboxWithState } from "../shared/store/store.ts";
import { putMailbox } from "./applications.ts";
import type { ApiDeps } from "./deps.ts";
import type { ChangeNote } from "./http/audit-trail.ts";
import { differs, listChanges, mailboxFromInput } from "./mailboxes.ts";
import { checkSecretsStay } from "./moved-secrets.ts";
import type { ScopedDeps } from "./scoped-deps.ts";

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

export type SaveMailboxDeps = Pick<ScopedDeps, "store" | "facts" | "subscriptions" | "logins" | "mailboxPrefix">;
/** A mailbox as it is stored now, and the webhook secret if the service generated it. */
type Saved = { stored: Mailbox; generated?: Secret | undefined };

/** Registers a mailbox. Throws `conflict` if there is one with this id by now. */
export async function createMailbox(deps: SaveMailboxDeps, input: MailboxInput & { id: string }): Promise<Saved> {
  const { mailbox, generated } = mailboxFromInput(input);
  const stored = await putMailbox(deps, mailbox);
  deps.facts.emit({ kind: "mailbox.registered", mailbox: stored.id, address: stored.address });
  deps.subscriptions.wake(stored.id);
  return { stored, generated };
}

/**
 * Stores the change. With new credentials, server or endpoint the state starts anew, without failed logins. Throws
 * `secret_needed` if a stored secret would go to another place and `body`, the request, does not contain it.
 */
export async function changeMailbox(
  deps: SaveMailboxDeps,
  previous: MailboxWithState,
  input: MailboxInput,
  { body, note }: { body: unknown; note: (more: ChangeNote) => void },
): Promise<Saved> {
  const { mailbox, generated } = mailboxFromInput(input, previous.mailbox);
  checkSecretsStay(previous.mailbox, mailbox, body);
  note({ changed: listChanges(previous.mailbox, mailbox) });
  const restarts =
    differs(previous.mailbox.receive, mailbox.receive) || differs(previous.mailbox.deliver, mailbox.deliver);
  if (restarts) await allowLoginRetry(deps.logins, previous.state, mailbox);
  const state = restarts ? { ...previous.state, ...restartedState(mailbox) } : undefined;
  const stored = await putMailbox(deps, mailbox, { previous: previous.mailbox, state });
  deps.facts.emit({ kind: "mailbox.changed", mailbox: stored.id, revision: stored.revision });
  deps.subscriptions.wake(stored.id);
  return { stored, generated };
}
