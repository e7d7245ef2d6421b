/** The mailboxes or deliveries that a bulk action is about, page by page, however many they are. */
import type { Config } from "../../shared/config.ts";
import { encodePageToken } from "../../shared/store/page-token.ts";
import type { Measures } from "../../shared/store/measured/measures.ts";
import type { Deliveries, Mailboxes } from "../../shared/store/store.ts";
import { readProofs, showMailbox, type ShownMailbox } from "../pages/console/shown-mailbox.ts";
import type { BulkJob, BulkOrder } from "./book.ts";
import { type DeliveryFilter, matchesDelivery, matchesMailbox, type MailboxFilter, storedFilter } from "./filters.ts";

export type TargetDeps = {
  /** As the token sees it that began the job. */
  store: {
    mailboxes: Pick<Mailboxes, "list">;
    deliveries: Pick<Deliveries, "list">;
    measures: Pick<Measures, "listRuns">;
  };
  config: Config;
};

/** `after` is where somebody begins who goes on after this target. */
export type Target = { id: string; after: string | null };

const PAGE = 200;

/** The targets after this place, in an order that the work does not change. */
export function findTargets(deps: TargetDeps, order: BulkOrder, after: string | null): AsyncGenerator<Target> {
  return order.action === "replay"
    ? findDeliveries(deps, order.filter, after)
    : findMailboxes(deps, order.action, order.filter, after);
}

/** How many targets there are after this place. Rejects with the signal's reason. */
export async function countTargets(
  deps: TargetDeps,
  order: BulkOrder,
  after: string | null,
  signal: AbortSignal,
): Promise<number> {
  let count = 0;
  for await (const _ of findTargets(deps, order, after)) {
    signal.throwIfAborted();
    count += 1;
  }
  return count;
}

async function* findMailboxes(
  { store, config }: TargetDeps,
  action: BulkJob["action"],
  filter: MailboxFilter,
  after: string | null,
): AsyncGenerator<Target> {
  const proofs = await readProofs({ store, config });
  let cursor = after === null ? null : encodePageToken([after]);
  do {
    const query = { ...storedFilter(filter), limit: PAGE, ...(cursor !== null && { cursor }) };
    const page = await store.mailboxes.list(query);
    for (const item of page.items) {
      const one = showMailbox(item, proofs);
      if (isChangeable(action, one) && matchesMailbox(one, filter)) yield { id: one.mailbox.id, after: one.mailbox.id };
    }
    cursor = page.next;
  } while (cursor !== null);
}

/** Whether the action would do something with the mailbox. */
function isChangeable(action: BulkJob["action"], { mailbox, shown }: ShownMailbox): boolean {
  if (action === "pause") return !mailbox.paused;
  return action !== "resume" || mailbox.paused || shown === "needs_attention";
}

/** A replayed delivery leaves its page. So who goes on begins at the same page again, and finds the others. */
async function* findDeliveries(
  { store }: TargetDeps,
  filter: DeliveryFilter,
  after: string | null,
): AsyncGenerator<Target> {
  let cursor = after;
  do {
    const { mailbox, state = "parked" } = filter;
    const query = { state, limit: PAGE, ...(mailbox !== undefined && { mailbox }) };
    const page = await store.deliveries.list(cursor === null ? query : { ...query, cursor });
    for (const one of page.items) if (matchesDelivery(one, filter)) yield { id: one.id, after: cursor };
    cursor = page.next;
  } while (cursor !== null);
}
