/** /mailboxes and /mailboxes/bulk: the list with its filters in the URL, and changes of all mailboxes that match. */
import { MailboxStatus } from "../../../shared/contract/mailbox.ts";
import { asProblem } from "../../../shared/contract/problem.ts";
import type { Route } from "../../http/route.ts";
import { bulkBody, type MailboxFilter, mailboxListBody } from "../../pages/console/mailbox-list.ts";
import { queryOf } from "../../pages/console/parts.ts";
import { endpointHost, serverHost, type ShownMailbox } from "../../pages/console/shown-mailbox.ts";
import { measureRows } from "./measured/rows.ts";
import { action, type ConsoleCall, type ConsoleDeps, page, seeOther } from "./page.ts";
import { includesText, MAX_SCANNED, scanMailboxes } from "./scan.ts";

const PAGE_SIZE = 50;
/** A page for which more mailboxes had to be read is not renewed by itself. */
const MAX_LIVE = 200;
/** As many mailboxes one bulk action changes. */
const MAX_CHANGED = 1_000;
const CHANGES_AT_ONCE = 8;

export function mailboxListRoutes(deps: ConsoleDeps): Route[] {
  return [
    page(deps, "/mailboxes", showList),
    page(deps, "/mailboxes/bulk", askBulk),
    action(deps, "/mailboxes/bulk", changeBulk),
  ];
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
  const stored = storeFilter(filter);
  const isStored = filter.protocol === "" && filter.host === "" && (filter.q === "" || "address" in stored);
  const items: ShownMailbox[] = [];
  let last: string | null = null;
  let scanned = 0;
  for await (const one of scanMailboxes(deps, stored, { after, ...(isStored && { pageSize: PAGE_SIZE + 1 }) })) {
    if (items.length === PAGE_SIZE) return { items, next: last, total: await totalOf(), scanned };
    scanned += 1;
    last = one.mailbox.id;
    if (matches(one, filter)) items.push(one);
  }
  return { items, next: scanned >= MAX_SCANNED ? last : null, total: await totalOf(), scanned };

  async function totalOf(): Promise<number | undefined> {
    const isExact = isStored && (filter.state === "" || "status" in stored);
    return isExact ? (await deps.store.mailboxes.list({ ...stored, limit: 1 })).total : undefined;
  }
}

/** The part of a filter that the store has an index for. Two of the states that are shown are none of the store's. */
function storeFilter({ state, q }: MailboxFilter): { status?: MailboxStatus; address?: string } {
  const status = MailboxStatus.options.find((one) => one === state && one !== "needs_attention");
  return { ...(status && { status }), ...(/^[^\s@]+@[^\s@]+\.[^\s@]+$/.test(q) && { address: q }) };
}

function matches({ mailbox, shown }: ShownMailbox, { state, protocol, host, q }: MailboxFilter): boolean {
  if (state !== "" && shown !== state) return false;
  if (protocol !== "" && mailbox.receive.protocol !== protocol) return false;
  if (!includesText([serverHost(mailbox), endpointHost(mailbox.deliver.url)], host)) return false;
  return includesText([mailbox.address, mailbox.id, mailbox.name], q);
}

type Change = "pause" | "resume";

/** The mailboxes of the filter that the change would change, at most MAX_CHANGED. */
async function findChangeable({ deps }: ConsoleCall, filter: MailboxFilter, change: Change) {
  const ids: string[] = [];
  for await (const one of scanMailboxes(deps, storeFilter(filter))) {
    const { paused } = one.mailbox;
    const isChangeable = change === "pause" ? !paused : paused || one.shown === "needs_attention";
    if (!isChangeable || !matches(one, filter)) continue;
    if (ids.length === MAX_CHANGED) return { ids, isPart: true };
    ids.push(one.mailbox.id);
  }
  return { ids, isPart: false };
}

function readChange(given: URLSearchParams): Change {
  return given.get("do") === "resume" ? "resume" : "pause";
}

async function askBulk(call: ConsoleCall): Promise<Response> {
  const [filter, change] = [readFilter(call.query), readChange(call.query)];
  const { ids, isPart } = await findChangeable(call, filter, change);
  const body = bulkBody({ base: call.base, change, filter, count: ids.length, isPart });
  return call.render({ title: change === "pause" ? "Pause mailboxes" : "Resume mailboxes", body });
}

async function changeBulk(call: ConsoleCall): Promise<Response> {
  const [filter, change] = [readFilter(call.form), readChange(call.form)];
  const { ids } = await findChangeable(call, filter, change);
  const failed = await changeEach(call, ids, (id) => `/api/v1/mailboxes/${encodeURIComponent(id)}/${change}`);
  const n = String(ids.length - failed);
  return seeOther(`${call.base}/mailboxes${queryOf({ ...filter, done: change, n, failed: String(failed) })}`);
}

/** Calls the API for each id, a few at once. Resolves with how many calls failed; throws if all failed. */
export async function changeEach(call: ConsoleCall, ids: string[], pathOf: (id: string) => string): Promise<number> {
  const waiting = [...ids];
  const problems: unknown[] = [];
  const work = async () => {
    for (let id = waiting.pop(); id !== undefined && !call.request.signal.aborted; id = waiting.pop())
      await call.api("POST", pathOf(id)).catch((error: unknown) => problems.push(error));
  };
  await Promise.all(Array.from({ length: CHANGES_AT_ONCE }, work));
  if (problems.length === ids.length && problems.length > 0) throw asProblem(problems[0]);
  return problems.length + waiting.length;
}
