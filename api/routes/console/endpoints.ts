/** /endpoints: where the messages go, and how it is there. */
import * as v from "valibot";
import type { Delivery, DeliveryState } from "../../../shared/contract/delivery.ts";
import { endpointOf } from "../../../shared/contract/endpoint.ts";
import { PauseList } from "../../endpoints/routes.ts";
import type { Route } from "../../http/route.ts";
import { type EndpointPause, type EndpointRow, endpointsBody } from "../../pages/console/endpoints.ts";
import { endpointHost } from "../../pages/console/shown-mailbox.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import type { Fresh } from "./fresh.ts";
import { type ConsoleCall, type ConsoleDeps, page } from "./page.ts";
import { MAX_SCANNED, scanMailboxes } from "./scan.ts";

/** Of each state so many deliveries are looked at, the newest. */
const SAMPLE = 500;

export type Endpoints = { rows: EndpointRow[]; isWhole: boolean };
export type EndpointsOf = (deps: ScopedDeps) => Promise<Fresh<Endpoints>>;

export function endpointRoutes(deps: ConsoleDeps, endpointsOf: EndpointsOf): Route[] {
  return [
    page(deps, "/endpoints", async (call) => {
      const { value, at } = await endpointsOf(call.deps);
      const body = endpointsBody(call.base, withPauses(value.rows, await pausesFor(call)), value.isWhole);
      return call.render({ title: "Endpoints", isLive: true, at, body });
    }),
  ];
}

/** What a person has paused, as far as the token sees it. */
export async function pausesFor(call: ConsoleCall): Promise<EndpointPause[]> {
  return v.parse(PauseList, await (await call.api("GET", "/api/v1/endpoints")).json()).items;
}

/** The rows, each with the pause that holds its deliveries, and a row for each pause that no mailbox has now. */
export function withPauses(rows: readonly EndpointRow[], pauses: readonly EndpointPause[]): EndpointRow[] {
  const known = new Set(rows.map(({ url }) => url));
  const others = [...new Set(pauses.map(({ url }) => url))].filter((url) => !known.has(url)).map(emptyRow);
  return [...rows, ...others].map((row) => {
    const origin = endpointOf(new URL(row.url).origin);
    const own = pauses.find(({ url }) => url === row.url) ?? pauses.find(({ url }) => url === origin);
    return own ? { ...row, pause: own } : row;
  });
}

export async function collectEndpoints(deps: ScopedDeps): Promise<Endpoints> {
  const rows = new Map<string, EndpointRow>();
  const urls = new Map<string, string>();
  const rowOf = (url: string): EndpointRow => {
    const key = endpointOf(url);
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
    urls.set(mailbox.id, mailbox.deliver.url);
  }
  const states: DeliveryState[] = ["retrying", "parked", "delivered"];
  const pages = await Promise.all(states.map((state) => deps.store.deliveries.list({ state, limit: SAMPLE })));
  // A delivery knows the origin alone. Its mailbox knows the URL, unless it delivers elsewhere by now.
  for (const delivery of pages.flatMap(({ items }) => items)) {
    const url = urls.get(delivery.mailbox);
    const isThere = url !== undefined && new URL(url).origin === delivery.endpoint;
    addDelivery(rowOf(isThere ? url : delivery.endpoint), delivery);
  }
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

function weightOf({ isGone, retrying, parked }: EndpointRow): number {
  return (isGone ? 1e9 : 0) + retrying + parked;
}
