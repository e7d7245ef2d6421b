/** Lists of mailboxes from the index in Redis, page by page in the order of ids. */
import type { RedisRegistry } from "./registry.ts";
import { markAfter, readMark } from "../page-token.ts";
import type { MailboxQuery, MailboxWithState, Page } from "../store.ts";

type Deps = {
  registry: RedisRegistry;
  read: (id: string) => Promise<string | null>;
  opened: (doc: string, state: string | null) => MailboxWithState;
};

/** A page may be shorter than asked for when a mailbox was removed while it was read; `next` is true all the same. */
export async function listedMailboxes(deps: Deps, query: MailboxQuery): Promise<Page<MailboxWithState>> {
  const [after] = query.cursor === undefined ? [] : readMark(query.cursor, 1);
  const { ids, total } =
    query.address === undefined ? await byStatus(deps, query, after) : await byAddress(deps, query, after);
  const page = ids.slice(0, query.limit);
  const [docs, states] = await Promise.all([Promise.all(page.map(deps.read)), deps.registry.states(page)]);
  const items = docs.flatMap((doc, n) => (doc === null ? [] : [deps.opened(doc, states[n] ?? null)]));
  const last = page.at(-1);
  return { items, next: ids.length > query.limit && last !== undefined ? markAfter([last]) : null, total };
}

/** One more id than asked for, if there is one. */
type Found = { ids: string[]; total: number };

async function byStatus(
  { registry }: Deps,
  { status, limit }: MailboxQuery,
  after: string | undefined,
): Promise<Found> {
  const index = status === undefined ? "ids" : `status:${status}`;
  const from = after === undefined ? "-" : `(${after}`;
  const [ids, total] = await Promise.all([
    registry.members(index, { from, to: "+", limit: limit + 1 }),
    registry.count(index),
  ]);
  return { ids, total };
}

/** Few mailboxes share an address, so those with another status are left out after reading. */
async function byAddress({ registry }: Deps, query: MailboxQuery, after: string | undefined): Promise<Found> {
  const address = query.address?.toLowerCase() ?? "";
  const to = `(${address}\u0001`;
  const all: string[] = [];
  for (let from = `[${address}\0`; ;) {
    const members = await registry.members("addresses", { from, to, limit: PAGE });
    const ids = members.map((member) => member.slice(address.length + 1));
    const states = query.status === undefined ? [] : await registry.states(ids);
    all.push(...ids.filter((_, n) => query.status === undefined || states[n]?.includes(`"status":"${query.status}"`)));
    const last = members.at(-1);
    if (members.length < PAGE || last === undefined) break;
    from = `(${last}`;
  }
  return { ids: all.filter((id) => after === undefined || id > after).slice(0, query.limit + 1), total: all.length };
}

const PAGE = 1_000;
