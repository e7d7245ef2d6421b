/** Where the messages go: each endpoint with its mailboxes, with what waits for it, and with what it answered last. */
import type { Attempt, Delivery, DeliveryState } from "../../shared/contract/delivery.ts";
import { endpointOf } from "../../shared/contract/endpoint.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { EndpointPause } from "../../shared/store/endpoint-pauses.ts";
import type { Store } from "../../shared/store/store.ts";

/** Of each state so many deliveries are looked at, the newest. */
const SAMPLE = 500;
const MAX_MAILBOXES = 5_000;
const PAGE = 500;

/** `last` is the newest attempt among the deliveries that were looked at. `isGone`: it answered 410 to one of its mailboxes. */
export type EndpointRow = {
  url: string;
  mailboxes: number;
  isGone: boolean;
  retrying: number;
  parked: number;
  oldest: string | null;
  last: Omit<Attempt, "ms"> | undefined;
  /** Pauses of this URL, then those of its whole origin. */
  pauses: EndpointPause[];
};
/** `isWhole` is false if there are more mailboxes or waiting deliveries than were looked at. */
export type Endpoints = { rows: EndpointRow[]; isWhole: boolean };

export const ENDPOINT_STATES = ["paused", "gone", "retrying", "unused", "refused", "accepts"] as const;

type SeenStore = { mailboxes: Pick<Store["mailboxes"], "list">; deliveries: Pick<Store["deliveries"], "list"> };

/** Without pauses, which `withPauses` adds. What is not well comes first. */
export async function collectEndpoints({ store }: { store: SeenStore }): Promise<Endpoints> {
  const rows = new Map<string, EndpointRow>();
  const urls = new Map<string, string>();
  const rowOf = (url: string): EndpointRow => {
    const key = endpointOf(url);
    const row = rows.get(key) ?? emptyRow(key);
    rows.set(key, row);
    return row;
  };
  let seen = 0;
  for await (const { id, deliver, endpointGone } of eachMailbox(store)) {
    if (seen++ === MAX_MAILBOXES) break;
    const row = rowOf(deliver.url);
    row.mailboxes += 1;
    row.isGone ||= endpointGone;
    urls.set(id, deliver.url);
  }
  const states: DeliveryState[] = ["retrying", "parked", "delivered"];
  const pages = await Promise.all(states.map((state) => store.deliveries.list({ state, limit: SAMPLE })));
  // A delivery knows the origin alone. Its mailbox knows the URL, unless it delivers elsewhere by now.
  for (const delivery of pages.flatMap(({ items }) => items)) {
    const url = urls.get(delivery.mailbox);
    const isThere = url !== undefined && new URL(url).origin === delivery.endpoint;
    addDelivery(rowOf(isThere ? url : delivery.endpoint), delivery);
  }
  const isWhole = seen <= MAX_MAILBOXES && pages.slice(0, 2).every(({ items, total }) => items.length >= total);
  const sorted = [...rows.values()].toSorted((a, b) => weightOf(b) - weightOf(a) || (a.url < b.url ? -1 : 1));
  return { rows: sorted, isWhole };
}

export async function* eachMailbox({ mailboxes }: Pick<SeenStore, "mailboxes">): AsyncGenerator<Mailbox> {
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<typeof mailboxes.list>> = await mailboxes.list({
      limit: PAGE,
      ...(cursor !== null && { cursor }),
    });
    for (const { mailbox } of page.items) yield mailbox;
    cursor = page.next;
  } while (cursor !== null);
}

/** The rows with the pauses that hold their deliveries, and a row for each pause that no mailbox has now. */
export function withPauses(rows: readonly EndpointRow[], pauses: readonly EndpointPause[]): EndpointRow[] {
  const known = new Set(rows.map(({ url }) => url));
  const others = [...new Set(pauses.map(({ url }) => url))].filter((url) => !known.has(url)).map(emptyRow);
  return [...rows, ...others].map((row) => {
    const origin = endpointOf(new URL(row.url).origin);
    const own = pauses.filter(({ url }) => url === row.url);
    const ofOrigin = pauses.filter(({ url }) => url === origin && url !== row.url);
    return { ...row, pauses: [...own, ...ofOrigin] };
  });
}

export function endpointState({ pauses, isGone, retrying, last }: EndpointRow): (typeof ENDPOINT_STATES)[number] {
  if (pauses.length > 0) return "paused";
  if (isGone) return "gone";
  if (retrying > 0) return "retrying";
  if (last === undefined) return "unused";
  return last.problem === null ? "accepts" : "refused";
}

function emptyRow(url: string): EndpointRow {
  const counts = { mailboxes: 0, retrying: 0, parked: 0 };
  return { url, isGone: false, ...counts, oldest: null, last: undefined, pauses: [] };
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
