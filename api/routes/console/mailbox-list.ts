/** /mailboxes: the list with its filters in the URL. */
import { matchesMailbox, storedFilter } from "../../bulk/filters.ts";
import { MAILBOX_ORDERS, type MailboxOrder } from "../../../shared/store/measured/mailbox-order.ts";
import type { Route } from "../../http/route.ts";
import { type MailboxFilter, mailboxListBody } from "../../pages/console/mailbox-list.ts";
import type { ShownMailbox } from "../../pages/console/shown-mailbox.ts";
import { measureRows } from "./measured/rows.ts";
import { type ConsoleCall, type ConsoleDeps, page } from "./page.ts";
import { MAX_SCANNED, scanInOrder, scanMailboxes } from "./scan.ts";

const PAGE_SIZE = 50;
/** A page for which more mailboxes had to be read is not renewed by itself. */
const MAX_LIVE = 200;

export function mailboxListRoutes(deps: ConsoleDeps): Route[] {
  return [page(deps, "/mailboxes", showList)];
}

async function showList(call: ConsoleCall): Promise<Response> {
  const filter = readFilter(call.query);
  const mayOrder = call.deps.mailboxPrefix === "";
  const order = mayOrder ? MAILBOX_ORDERS.find((one) => one === call.query.get("sort")) : undefined;
  const after = call.query.get("after") ?? undefined;
  const { next, total, scanned, ...found } = await findPage(call, filter, { after, order });
  const items = await measureRows(call.deps, found.items);
  const view = {
    base: call.base,
    query: call.query,
    filter,
    order,
    mayOrder,
    items,
    next,
    total,
    mayManage: call.may("manage"),
  };
  return call.render({ title: "Mailboxes", isLive: scanned <= MAX_LIVE, body: mailboxListBody(view) });
}

function readFilter(given: URLSearchParams): MailboxFilter {
  const read = (name: string) => (given.get(name) ?? "").trim().slice(0, 320);
  return { state: read("state"), protocol: read("protocol"), host: read("host"), q: read("q") };
}

type FoundPage = { items: ShownMailbox[]; next: string | null; total: number | undefined; scanned: number };

type Wanted = { after: string | undefined; order: MailboxOrder | undefined };

async function findPage({ deps }: ConsoleCall, filter: MailboxFilter, { after, order }: Wanted): Promise<FoundPage> {
  const stored = storedFilter(filter);
  const isStored = filter.protocol === "" && filter.host === "" && (filter.q === "" || "address" in stored);
  const items: ShownMailbox[] = [];
  let last: string | null = null;
  let scanned = 0;
  const isOneRead = isStored && (order === undefined || Object.keys(stored).length === 0);
  const options = { after, ...(isOneRead && { pageSize: PAGE_SIZE + 1 }) };
  for await (const { one, place } of order ? scanInOrder(deps, order, options) : scanById(deps, stored, options)) {
    if (items.length === PAGE_SIZE) return { items, next: last, total: await totalOf(), scanned };
    scanned += 1;
    last = place;
    if (matchesMailbox(one, filter)) items.push(one);
  }
  return { items, next: scanned >= MAX_SCANNED ? last : null, total: await totalOf(), scanned };

  async function totalOf(): Promise<number | undefined> {
    const isExact = isStored && (filter.state === "" || "status" in stored);
    return isExact ? (await deps.store.mailboxes.list({ ...stored, limit: 1 })).total : undefined;
  }
}

async function* scanById(...given: Parameters<typeof scanMailboxes>) {
  for await (const one of scanMailboxes(...given)) yield { one, place: one.mailbox.id };
}
