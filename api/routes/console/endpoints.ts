/** /endpoints: where the messages go, and how it is there. */
import type { Delivery, DeliveryState } from "../../../shared/contract/delivery.ts";
import type { Route } from "../../http/route.ts";
import { type EndpointRow, endpointsBody } from "../../pages/console/endpoints.ts";
import { endpointHost } from "../../pages/console/shown-mailbox.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { keepFresh } from "./fresh.ts";
import { type ConsoleDeps, page } from "./page.ts";
import { MAX_SCANNED, scanMailboxes } from "./scan.ts";

/** Of each state so many deliveries are looked at, the newest. */
const SAMPLE = 500;

export function endpointRoutes(deps: ConsoleDeps): Route[] {
  const endpointsOf = keepFresh(collectEndpoints);
  return [
    page(deps, "/endpoints", async (call) => {
      const { value, at } = await endpointsOf(call.deps);
      const body = endpointsBody(call.base, value.rows, value.isWhole);
      return call.render({ title: "Endpoints", isLive: true, at, body });
    }),
  ];
}

async function collectEndpoints(deps: ScopedDeps): Promise<{ rows: EndpointRow[]; isWhole: boolean }> {
  const rows = new Map<string, EndpointRow>();
  const rowOf = (url: string): EndpointRow => {
    const key = withoutQuery(url);
    const row = rows.get(key) ?? emptyRow(key);
    rows.set(key, row);
    return row;
  };
  let scanned = 0;
  for await (const { mailbox } of scanMailboxes(deps, {})) {
    scanned += 1;
    const row = rowOf(mailbox.deliver.url);
    row.mailboxes += 1;
    row.isGone ||= mailbox.endpointGone;
  }
  const states: DeliveryState[] = ["retrying", "parked", "delivered"];
  const pages = await Promise.all(states.map((state) => deps.store.deliveries.list({ state, limit: SAMPLE })));
  for (const delivery of pages.flatMap(({ items }) => items)) addDelivery(rowOf(delivery.endpoint), delivery);
  const isWhole = scanned < MAX_SCANNED && pages.slice(0, 2).every(({ items, total }) => items.length >= total);
  const sorted = [...rows.values()].toSorted((a, b) => weightOf(b) - weightOf(a) || (a.url < b.url ? -1 : 1));
  return { rows: sorted, isWhole };
}

function emptyRow(url: string): EndpointRow {
  const counts = { mailboxes: 0, retrying: 0, parked: 0 };
  return { url, host: endpointHost(url), isGone: false, ...counts, oldest: null, last: undefined };
}

function addDelivery(row: EndpointRow, { state, createdAt, attempts }: Delivery): void {
  if (state !== "delivered") row[state] += 1;
  if (state === "retrying" && (row.oldest === null || createdAt < row.oldest)) row.oldest = createdAt;
  const last = attempts.at(-1);
  if (last && (!row.last || last.at > row.last.at)) row.last = last;
}

/** A query may hold a key of the endpoint. */
function withoutQuery(url: string): string {
  const parsed = URL.parse(url);
  return parsed ? parsed.origin + parsed.pathname : url;
}

function weightOf({ isGone, retrying, parked }: EndpointRow): number {
  return (isGone ? 1e9 : 0) + retrying + parked;
}
