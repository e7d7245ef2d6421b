/** Lists mailboxes from the index in Redis, page by page in the order of ids. */
import { endOfPrefix } from "../access-rules.ts";
import type { RedisRegistry } from "./registry.ts";
import { encodePageToken, decodePageToken } from "../page-token.ts";
import type { MailboxQuery, MailboxWithState, Page, StateOfMailbox } from "../store.ts";

type ListMailboxesDeps = {
  registry: RedisRegistry;
  readDoc: (id: string) => Promise<string | null>;
  toMailbox: (doc: string, state: string | null) => MailboxWithState;
};

/** A page may be shorter than requested when a mailbox was removed while it was read. `next` is still right. */
export async function listMailboxes(deps: ListMailboxesDeps, query: MailboxQuery): Promise<Page<MailboxWithState>> {
  const [after] = query.cursor === undefined ? [] : decodePageToken(query.cursor, 1);
  const { ids, total } =
    query.address === undefined
      ? await listIdsByStatus(deps, query, after)
      : await listIdsByAddress(deps, query, after);
  const page = ids.slice(0, query.limit);
  const [docs, states] = await Promise.all([Promise.all(page.map(deps.readDoc)), deps.registry.states(page)]);
  const items = docs.flatMap((doc, n) => (doc === null ? [] : [deps.toMailbox(doc, states[n] ?? null)]));
  const last = page.at(-1);
  return { items, next: ids.length > query.limit && last !== undefined ? encodePageToken([last]) : null, total };
}

/** The states of a page of mailboxes. `toState` gets null for a mailbox whose first state is not written yet. */
export async function listStates(
  registry: RedisRegistry,
  { limit, cursor, prefix }: Pick<MailboxQuery, "limit" | "cursor" | "prefix">,
  toState: (state: string | null) => StateOfMailbox["state"],
): Promise<Omit<Page<StateOfMailbox>, "total">> {
  const [after] = cursor === undefined ? [] : decodePageToken(cursor, 1);
  const { from, end } = idRange(prefix, after);
  const ids = await registry.listMembers("ids", { from, to: end, limit: limit + 1 });
  const page = ids.slice(0, limit);
  const states = await registry.states(page);
  const last = page.at(-1);
  return {
    items: page.map((id, n) => ({ id, state: toState(states[n] ?? null) })),
    next: ids.length > limit && last !== undefined ? encodePageToken([last]) : null,
  };
}

/** The ids with this prefix, and those of them after an id. */
function idRange(prefix: string | undefined, after: string | undefined) {
  const [start, end] = prefix ? [`[${prefix}`, `(${endOfPrefix(prefix)}`] : ["-", "+"];
  return { start, end, from: after === undefined || (prefix !== undefined && after < prefix) ? start : `(${after}` };
}

/** One id more than requested, if there is one. */
type IdPage = { ids: string[]; total: number };

async function listIdsByStatus(
  { registry }: ListMailboxesDeps,
  { status, limit, prefix }: MailboxQuery,
  after: string | undefined,
): Promise<IdPage> {
  const index = status === undefined ? "ids" : `status:${status}`;
  const { start, end, from } = idRange(prefix, after);
  const [ids, total] = await Promise.all([
    registry.listMembers(index, { from, to: end, limit: limit + 1 }),
    registry.count(index, start, end),
  ]);
  return { ids, total };
}

/** Few mailboxes share an address. So this reads them all and then drops those with another status or prefix. */
async function listIdsByAddress(
  { registry }: ListMailboxesDeps,
  query: MailboxQuery,
  after: string | undefined,
): Promise<IdPage> {
  const address = query.address?.toLowerCase() ?? "";
  const to = `(${address}\u0001`;
  const all: string[] = [];
  for (let from = `[${address}\0`; ;) {
    const members = await registry.listMembers("addresses", { from, to, limit: PAGE_SIZE });
    const ids = members
      .map((member) => member.slice(address.length + 1))
      .filter((id) => id.startsWith(query.prefix ?? ""));
    const states = query.status === undefined ? [] : await registry.states(ids);
    all.push(...ids.filter((_, n) => query.status === undefined || states[n]?.includes(`"status":"${query.status}"`)));
    const last = members.at(-1);
    if (members.length < PAGE_SIZE || last === undefined) break;
    from = `(${last}`;
  }
  return { ids: all.filter((id) => after === undefined || id > after).slice(0, query.limit + 1), total: all.length };
}

const PAGE_SIZE = 1_000;
