/** Reads mailboxes page by page, at most so many for one page of the console. */
import type { MailboxOrder } from "../../../shared/store/measured/mailbox-order.ts";
import { encodePageToken } from "../../../shared/store/page-token.ts";
import type { MailboxQuery } from "../../../shared/store/store.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { readProofs, showMailbox, type ShownMailbox } from "../../pages/console/shown-mailbox.ts";

/** As many mailboxes are read for one page at most. */
export const MAX_SCANNED = 5_000;
const PAGE_SIZE = 1_000;

/** The mailboxes after the id `after`, in the order of their ids. */
export async function* scanMailboxes(
  deps: Pick<ScopedDeps, "store" | "config">,
  filter: Pick<MailboxQuery, "status" | "address">,
  { after, pageSize = PAGE_SIZE }: { after?: string | undefined; pageSize?: number } = {},
): AsyncGenerator<ShownMailbox, void, undefined> {
  let cursor = after === undefined ? null : encodePageToken([after]);
  let scanned = 0;
  const proofs = await readProofs(deps);
  do {
    const page = await deps.store.mailboxes.list({ ...filter, limit: pageSize, ...(cursor !== null && { cursor }) });
    for (const item of page.items) yield showMailbox(item, proofs);
    scanned += page.items.length;
    cursor = page.next;
  } while (cursor !== null && scanned < MAX_SCANNED);
}

/**
 * The mailboxes in an order of the store, each with the place after which the list goes on. Only for those who see all
 * mailboxes.
 */
export async function* scanInOrder(
  deps: Pick<ScopedDeps, "store" | "config">,
  order: MailboxOrder,
  { after: start, pageSize = PAGE_SIZE }: { after?: string | undefined; pageSize?: number } = {},
): AsyncGenerator<{ one: ShownMailbox; place: string }, void, undefined> {
  const { store } = deps;
  const proofs = await readProofs(deps);
  let after = start;
  for (let scanned = 0; scanned < MAX_SCANNED; scanned += pageSize) {
    const page = await store.orderedMailboxes.list({ order, limit: pageSize, ...(after !== undefined && { after }) });
    const items = await Promise.all(page.map(({ id }) => store.mailboxes.get(id)));
    for (const [n, { place }] of page.entries()) {
      const item = items[n];
      if (item) yield { one: showMailbox(item, proofs), place };
    }
    after = page.at(-1)?.place;
    if (page.length < pageSize) return;
  }
}
