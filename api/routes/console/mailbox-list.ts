/** /mailboxes: the list with its filters in the URL. */
import { matchesMailbox, storedFilter } from "../../bulk/filters.ts";
import type { Route } from "../../http/route.ts";
import { type MailboxFilter, mailboxListBody } from "../../pages/console/mailbox-list.ts";
import type { ShownMailbox } from "../../pages/console/shown-mailbox.ts";
import { measureRows } from "./measured/rows.ts";
import { type ConsoleCall, type ConsoleDeps, page } from "./page.ts";
import { MAX_SCANNED, scanMailboxes } from "./scan.ts";

const PAGE_SIZE = 50;
/** A page for which more mailboxes had to be read is not renewed by itself. */
const MAX_LIVE = 200;

export function mailboxListRoutes(deps: ConsoleDeps): Route[] {
  return [page(deps, "/mailboxes", showList)];
}

async function showList(call: ConsoleCall): Promise<Response> {
  const filter = readFilter(call.query);
  const { next, total, scanned, ...found } = await findPage(call, filter, call.query.get("after") ?? undefined);
  const items = await measureRows(call.deps, found.items);
  const view = { base: call.base, query: call.query, filter, items, next, total, mayManage: call.may("manage") };
  return call.render({ title: "Mailboxes", isLive: scanned <= MAX_LIVE, body: mailboxListBody(view) });
}

function readFilter(given: URLSearchParams): MailboxFilter {
  const read = (name: string) => (given.get(name) ?? "").trim().slice(0, 320);
  return { state: read("state"), protocol: read("protocol"), host: read("host"), q: read("q") };
}

type FoundPage = { items: ShownMailbox[]; next: string | null; total: number | undefined; scanned: number };

async function findPage({ deps }: ConsoleCall, filter: MailboxFilter, after: string | undefined): Promise<FoundPage> {
  const stored = storedFilter(filter);
  const isStored = filter.protocol === "" && filter.host === "" && (filter.q === "" || "address" in stored);
  const items: ShownMailbox[] = [];
  let last: string | null = null;
  let scanned = 0;
  for await (const one of scanMailboxes(deps, stored, { after, ...(isStored && { pageSize: PAGE_SIZE + 1 }) })) {
    if (items.length === PAGE_SIZE) return { items, next: last, total: await totalOf(), scanned };
    scanned += 1;
    last = one.mailbox.id;
    if (matchesMailbox(one, filter)) items.push(one);
  }
  return { items, next: scanned >= MAX_SCANNED ? last : null, total: await totalOf(), scanned };

  async function totalOf(): Promise<number | undefined> {
    const isExact = isStored && (filter.state === "" || "status" in stored);
    return isExact ? (await deps.store.mailboxes.list({ ...stored, limit: 1 })).total : undefined;
  }
}
