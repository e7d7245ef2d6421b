/** Registering a CRM's mailbox: the same credentials twice change nothing, and nobody's other mailbox is ever touched. */
import type { Mailbox, MailboxInput } from "../../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../../shared/contract/problem.ts";
import type { MailboxWithState } from "../../../shared/store/store.ts";
import type { ApiDeps } from "../../deps.ts";
import { differs, mailboxFrom } from "../../mailboxes.ts";
import { notFound } from "../../http/problems.ts";
import { restarted } from "../mailboxes.ts";
import { idOf, sameKind, updatedMailbox, wholeMailbox } from "./credentials.ts";
import { text } from "./members.ts";

type Deps = Pick<ApiDeps, "config" | "store" | "facts" | "subscriptions">;
export type How = "subscribe" | "update" | "load";

/** Two requests about one mailbox may come at the same time; the later one reads again. */
const TRIES = 4;

/**
 * Stores the mailbox of these credentials and wakes its subscription; resolves once it is accepted, whatever the mail server says
 * later. `subscribe` replaces it whole, `update` only what the credentials carry, `load` registers an unknown one without
 * subscribing and leaves a known one alone. Throws `invalid`, `conflict`, and `not_found` for an update of nothing.
 */
export async function register(deps: Deps, credentials: unknown, how: How): Promise<Mailbox> {
  for (let tries = 1; ; tries++) {
    try {
      return await registerOnce(deps, credentials, how);
    } catch (error) {
      if (asProblem(error).code !== "conflict" || tries >= TRIES) throw error;
    }
  }
}

async function registerOnce(deps: Deps, credentials: unknown, how: How): Promise<Mailbox> {
  const id = idOf(credentials);
  const was = await deps.store.mailboxes.get(id);
  if (was && was.mailbox.deliver.dialect !== "creatio") {
    throw new Problem("forbidden", "A mailbox of this id is registered by the API and not a CRM's.", {
      retry: "never",
    });
  }
  if (was && how === "load") return was.mailbox;
  if (!was && how === "update" && text(credentials, "BpmEndpoint") === undefined) throw notFound("mailbox", id);
  const keyword = deps.config.LISTENERS_KEYWORD;
  const updates = how === "update" && was && sameKind(credentials, was.mailbox) ? was : undefined;
  const input = updates
    ? updatedMailbox(credentials, updates.mailbox)
    : wholeMailbox(credentials, { was: was?.mailbox, keyword, subscribed: how !== "load" });
  return was ? change(deps, was, input, how) : create(deps, input);
}

async function create({ store, facts, subscriptions }: Deps, input: MailboxInput): Promise<Mailbox> {
  const { mailbox } = mailboxFrom(input);
  const paused = mailbox.deliver.creatio?.subscribed === false;
  const stored = await store.mailboxes.put({ ...mailbox, paused });
  facts.emit({ kind: "mailbox.registered", mailbox: stored.id, address: stored.address });
  subscriptions.wake(stored.id);
  return stored;
}

async function change(deps: Deps, was: MailboxWithState, input: MailboxInput, how: How): Promise<Mailbox> {
  const { store, facts, subscriptions } = deps;
  const { mailbox: before } = was;
  const { mailbox } = mailboxFrom(input, before);
  // A pause by a person stays; one that only meant "not subscribed yet" ends with the subscription.
  const waits = mailbox.deliver.creatio?.subscribed === false;
  const paused = waits || (before.paused && before.deliver.creatio?.subscribed !== false);
  const same =
    !differs(before.receive, mailbox.receive) && before.paused === paused && before.address === mailbox.address;
  const told = before.told !== undefined && (how === "update" || same) ? { told: before.told } : {};
  const next = { ...mailbox, ...told, paused };
  if (same && !troubled(was) && !before.endpointGone) {
    // Nothing that the subscription depends on: it goes on as it is.
    if (differs(before.deliver, next.deliver)) await store.mailboxes.amend(next);
    return next;
  }
  const stored = await store.mailboxes.put(next, { ...was.state, ...restarted(next) });
  facts.emit({ kind: "mailbox.changed", mailbox: stored.id, revision: stored.revision });
  subscriptions.wake(stored.id);
  return stored;
}

/** Something that starting over might mend: whoever saves the mailbox again wants it tried again. */
function troubled({ state }: MailboxWithState): boolean {
  return state.status === "needs_attention" || state.failedLogins > 0;
}

/** Removes the CRM's mailboxes among these ids; the others, and unknown ones, are left as they are. */
export async function unregister({ store, facts, subscriptions }: Deps, ids: string[]): Promise<void> {
  for (const id of ids) {
    const found = await store.mailboxes.get(id);
    if (found?.mailbox.deliver.dialect !== "creatio" || !(await store.mailboxes.remove(id))) continue;
    facts.emit({ kind: "mailbox.removed", mailbox: id });
    subscriptions.wake(id);
  }
}
