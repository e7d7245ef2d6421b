/**
 * Mailboxes that a CRM closed. A CRM closes a mailbox and creates it again to change its type or settings, and also
 * when a licence is missing for a day. So a closed mailbox and its cursors are kept for some days, without its
 * passwords. If the CRM creates it again, no mail is lost or delivered twice.
 */
import type { Mailbox, Receive, Send } from "../shared/contract/mailbox.ts";
import { asProblem } from "../shared/contract/problem.ts";
import { Secret } from "../shared/contract/secret.ts";
import type { Part } from "../shared/run.ts";
import { type MailboxWithState, pausedState } from "../shared/store/store.ts";
import { clock, sleep } from "../shared/time.ts";
import type { ApiDeps } from "./deps.ts";

type ClosedDeps = Pick<ApiDeps, "store" | "facts" | "subscriptions">;

const HOLD_MS = 7 * 24 * 3_600_000;
const CHECK_INTERVAL_MS = 3_600_000;
const PAGE = 500;

export function isClosed({ closedAt }: Mailbox): boolean {
  return closedAt !== undefined;
}

/**
 * Ends the subscription and removes the passwords from the mailbox. If the CRM never subscribed to the mailbox, nothing
 * is worth keeping, so it is removed.
 */
export async function closeMailbox(deps: ClosedDeps, { mailbox, state }: MailboxWithState): Promise<void> {
  if (isClosed(mailbox)) return;
  if (mailbox.deliver.creatio?.subscribed !== true) return removeMailbox(deps, mailbox.id);
  const closedAt = new Date().toISOString();
  const { former: _former, ...kept } = mailbox;
  const closed: Mailbox = {
    ...kept,
    receive: withoutLogin(mailbox.receive),
    deliver: { ...mailbox.deliver, creatio: { ...mailbox.deliver.creatio, subscribed: false } },
    ...(mailbox.send && { send: withoutSecrets(mailbox.send) }),
    paused: true,
    closedAt,
  };
  const stored = await deps.store.mailboxes.put(closed, pausedState(state, closedAt));
  deps.facts.emit({ kind: "mailbox.changed", mailbox: stored.id, revision: stored.revision });
  deps.subscriptions.wake(stored.id);
}

function withoutLogin(receive: Receive): Receive {
  const closed = new Secret("(closed)");
  if (receive.protocol === "graph") return { ...receive, auth: { accessToken: closed } };
  return { ...receive, auth: { user: receive.auth.user, password: closed } };
}

function withoutSecrets({ auth: _auth, dkim: _dkim, ...send }: Send): Send {
  return send;
}

async function removeMailbox({ store, facts, subscriptions }: ClosedDeps, id: string): Promise<void> {
  if (!(await store.mailboxes.remove(id))) return;
  facts.emit({ kind: "mailbox.removed", mailbox: id });
  subscriptions.wake(id);
}

/** Removes a closed mailbox, so that a client can register its id by the API. */
export async function removeIfClosed(deps: ClosedDeps, id: string): Promise<void> {
  const found = await deps.store.mailboxes.get(id);
  if (found && isClosed(found.mailbox)) await removeMailbox(deps, id);
}

/** Removes mailboxes that were closed long ago, with all their data. */
export function closedMailboxRemover(deps: ClosedDeps): Part {
  const run = async (signal: AbortSignal) => {
    do {
      await removeExpired(deps, clock.now() - HOLD_MS).catch((error: unknown) => {
        const { code, message } = asProblem(error);
        const failure = { code, cause: message };
        deps.facts.emit({ kind: "service.failed", what: "removing closed mailboxes", failure });
      });
    } while (await sleep(CHECK_INTERVAL_MS, signal));
  };
  return { name: "closed mailboxes", run };
}

/** `before` is in milliseconds since 1970. A mailbox that the CRM still sends from stays, although it is closed. */
export async function removeExpired(deps: ClosedDeps, before: number): Promise<void> {
  let cursor: string | undefined;
  do {
    const page = await deps.store.mailboxes.list({ limit: PAGE, ...(cursor !== undefined && { cursor }) });
    for (const { mailbox } of page.items)
      if (mailbox.closedAt !== undefined && Date.parse(mailbox.closedAt) < before && mailbox.send?.auth === undefined)
        await removeMailbox(deps, mailbox.id);
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
}
