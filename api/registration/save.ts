/** Stores mailboxes as clients of the API give them. */
import type { Mailbox, MailboxInput } from "../../shared/contract/mailbox.ts";
import type { Secret } from "../../shared/contract/secret.ts";
import type { MailboxWithState } from "../../shared/store/store.ts";
import { putMailbox } from "../applications.ts";
import type { ChangeNote } from "../http/audit-trail.ts";
import { allowLoginRetry, restartedState } from "../mailbox-changes.ts";
import { differs, listChanges, mailboxFromInput } from "../mailboxes.ts";
import { checkSecretsStay } from "../moved-secrets.ts";
import type { ScopedDeps } from "../scoped-deps.ts";
import { bringWaitingForward } from "./waiting.ts";

export type SaveMailboxDeps = Pick<
  ScopedDeps,
  "store" | "facts" | "subscriptions" | "logins" | "mailboxPrefix" | "tasks"
>;
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
 * Stores the change. With new credentials, server or endpoint the state starts anew, without failed logins. After a change
 * of the endpoint the messages that wait for it are tried at once. Throws `secret_needed` if a stored secret would go to another place and `body`, the request, does not contain it.
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
  const hasOtherEndpoint = differs(previous.mailbox.deliver, mailbox.deliver);
  const restarts = hasOtherEndpoint || differs(previous.mailbox.receive, mailbox.receive);
  if (restarts) await allowLoginRetry(deps.logins, previous.state, mailbox);
  const state = restarts ? { ...previous.state, ...restartedState(mailbox) } : undefined;
  const stored = await putMailbox(deps, mailbox, { previous: previous.mailbox, state });
  deps.facts.emit({ kind: "mailbox.changed", mailbox: stored.id, revision: stored.revision });
  deps.subscriptions.wake(stored.id);
  if (hasOtherEndpoint) await bringWaitingForward(deps, stored.id);
  return { stored, generated };
}
