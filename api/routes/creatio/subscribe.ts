/**
 * Registers a CRM's mailbox. The same credentials twice change nothing, and mailboxes that belong to others are never
 * touched.
 */
import type { Mailbox, MailboxInput } from "../../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../../shared/contract/problem.ts";
import type { MailboxWithState } from "../../../shared/store/store.ts";
import type { ApiDeps } from "../../deps.ts";
import { differs, mailboxFromInput } from "../../mailboxes.ts";
import { secretNeededProblem } from "../../moved-secrets.ts";
import { listMovedSecrets } from "../../../shared/places.ts";
import { notFound } from "../../http/problems.ts";
import { allowLoginRetry, restartedState } from "../../mailbox-changes.ts";
import { closeMailbox, isClosed } from "../../closed-mailboxes.ts";
import { bringWaitingForward } from "../../registration/waiting.ts";
import { authOf, idOf, isSameProtocol, mergeMailboxInput, mailboxInputFrom } from "./credentials.ts";
import { text } from "./members.ts";

type RegisterDeps = Pick<ApiDeps, "config" | "store" | "facts" | "subscriptions" | "logins" | "tasks">;
export type RegisterMode = "subscribe" | "update" | "load";

/** Two requests about one mailbox may come at the same time. The later one reads again. */
const MAX_TRIES = 4;

/**
 * Stores the mailbox of these credentials and wakes its subscription. Resolves once the mailbox is stored, whatever the
 * mail server says later. `subscribe` replaces the whole mailbox. `update` replaces only what the credentials contain.
 * `load` registers an unknown mailbox without a subscription and leaves a known one alone. Throws `invalid`,
 * `conflict`, and `not_found` for an update of an unknown mailbox.
 */
export async function register(deps: RegisterDeps, credentials: unknown, mode: RegisterMode): Promise<Mailbox> {
  for (let tries = 1; ; tries++) {
    try {
      return await registerOnce(deps, credentials, mode);
    } catch (error) {
      if (asProblem(error).code !== "conflict" || tries >= MAX_TRIES) throw error;
    }
  }
}

async function registerOnce(deps: RegisterDeps, credentials: unknown, mode: RegisterMode): Promise<Mailbox> {
  const id = idOf(credentials);
  const previous = await deps.store.mailboxes.get(id);
  if (previous && previous.mailbox.deliver.dialect !== "creatio") {
    throw new Problem("forbidden", "A mailbox with this id was registered by the API, not by a CRM.", {
      retry: "never",
    });
  }
  const known = previous && !isClosed(previous.mailbox) ? previous : undefined;
  if (known && mode === "load") return known.mailbox;
  if (!known && mode === "update" && text(credentials, "BpmEndpoint") === undefined) throw notFound("mailbox", id);
  const keyword = deps.config.CRM_KEYWORD;
  const updates = mode === "update" && known && isSameProtocol(credentials, known.mailbox) ? known : undefined;
  const input = updates
    ? mergeMailboxInput(credentials, updates.mailbox)
    : mailboxInputFrom(credentials, { previous: previous?.mailbox, keyword, subscribed: mode !== "load" });
  if (!previous) return create(deps, input);
  const { mailbox } = mailboxFromInput(input, previous.mailbox);
  const isLoginGiven = authOf(credentials) !== undefined;
  const changed = await change(deps, previous, keepSecretsInPlace(previous.mailbox, mailbox, isLoginGiven), mode);
  if (differs(previous.mailbox.deliver, changed.deliver)) await bringWaitingForward(deps, changed.id);
  return changed;
}

/**
 * Throws `secret_needed` if the stored login for receiving would go to another place. A login for sending stays behind:
 * the next message of the CRM says how to send.
 */
function keepSecretsInPlace(before: Mailbox, after: Mailbox, isLoginGiven: boolean): Mailbox {
  // The login at the endpoint came with its URL.
  const isGiven = (path: string) => path.startsWith("deliver.") || (isLoginGiven && path.startsWith("receive."));
  const moved = listMovedSecrets(before, after, isGiven);
  const received = moved.filter((path) => path.startsWith("receive."));
  if (received.length > 0) throw secretNeededProblem(received);
  if (moved.length === 0) return after;
  const { send: _, ...others } = after;
  return others;
}

async function create({ store, facts, subscriptions }: RegisterDeps, input: MailboxInput): Promise<Mailbox> {
  const { mailbox } = mailboxFromInput(input);
  const paused = mailbox.deliver.creatio?.subscribed === false;
  const stored = await store.mailboxes.put({ ...mailbox, paused });
  facts.emit({ kind: "mailbox.registered", mailbox: stored.id, address: stored.address });
  subscriptions.wake(stored.id);
  return stored;
}

async function change(
  deps: RegisterDeps,
  previous: MailboxWithState,
  mailbox: Mailbox,
  mode: RegisterMode,
): Promise<Mailbox> {
  const { store, facts, subscriptions, logins } = deps;
  const { mailbox: before } = previous;
  // A pause by a person stays. A pause that only meant "not subscribed yet" ends with the subscription.
  const notSubscribed = mailbox.deliver.creatio?.subscribed === false;
  const paused = notSubscribed || (before.paused && before.deliver.creatio?.subscribed !== false);
  const unchanged =
    !differs(before.receive, mailbox.receive) && before.paused === paused && before.address === mailbox.address;
  const told = before.told !== undefined && (mode === "update" || unchanged) ? { told: before.told } : {};
  const next = { ...mailbox, ...told, paused };
  if (unchanged && !needsRestart(previous) && !before.endpointGone) {
    // The subscription does not depend on this change, so it continues.
    if (differs(before.deliver, next.deliver))
      await store.mailboxes.amend(next, (stored) => ({ ...stored, deliver: next.deliver }));
    return next;
  }
  await allowLoginRetry(logins, previous.state, next);
  const stored = await store.mailboxes.put(next, { ...previous.state, ...restartedState(next) });
  facts.emit({ kind: "mailbox.changed", mailbox: stored.id, revision: stored.revision });
  subscriptions.wake(stored.id);
  return stored;
}

/** Whether a restart might fix the problem. Somebody who saves the mailbox again wants a new attempt. */
function needsRestart({ state }: MailboxWithState): boolean {
  return state.status === "needs_attention" || state.failedLogins > 0;
}

/** Closes the CRM's mailboxes among these ids. Others and unknown ones stay as they are. */
export async function unregister(deps: RegisterDeps, ids: string[]): Promise<void> {
  for (const id of ids) {
    const found = await deps.store.mailboxes.get(id);
    if (found?.mailbox.deliver.dialect === "creatio") await closeMailbox(deps, found);
  }
}
