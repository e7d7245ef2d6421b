/** Lists deliveries from the index in Redis, page by page. */
import type { Delivery, DeliveryState } from "../../../contract/delivery.ts";
import { Problem } from "../../../contract/problem.ts";
import type { RedisConnection } from "../connection/client.ts";
import {
  type DeliveryIndex,
  idFromKey,
  type IndexedDelivery,
  deliveryKey,
  type KeyRange,
  type DeliveryLocation,
  DELIVERY_STATES,
  timeKey,
} from "./indexes.ts";
import { findInDelivery, readDelivery } from "./records.ts";
import type { RedisKeys } from "../keys.ts";
import { numberOf, textsOf } from "../connection/reply.ts";
import { endOfPrefix } from "../../access-rules.ts";
import { encodePageToken, decodePageToken } from "../../page-token.ts";
import type { DeliveryQuery } from "../../delivery-search.ts";
import type { Page } from "../../store.ts";

type ListDeliveriesDeps = { redis: RedisConnection; keys: RedisKeys; index: DeliveryIndex };

/**
 * Newest first. A page may be shorter than requested when a delivery was deleted while it was read. `next` is still
 * right.
 */
export async function listDeliveries(deps: ListDeliveriesDeps, query: DeliveryQuery): Promise<Page<Delivery>> {
  const states = query.state === undefined ? DELIVERY_STATES : [query.state];
  const since = query.since === undefined ? "-" : `[${timeKey(parseTimestamp(query.since))}`;
  const mailboxes = await mailboxesOf(deps, query);
  const select = { states, mailboxes, since };
  const after = query.cursor === undefined ? null : (decodePageToken(query.cursor, 1)[0] ?? null);
  const { text, limit } = query;
  const [page, totals] = await Promise.all([
    text === undefined ? readPage(deps, select, { after, limit }) : findText(deps, select, { after, limit, text }),
    Promise.all(states.map((state) => countDeliveries(deps, { state, mailboxes, since }))),
  ]);
  const next = page.last === null ? null : encodePageToken([page.last]);
  return { items: page.items, next, total: totals.reduce((sum, n) => sum + n, 0) };
}

type Selection = { states: readonly DeliveryState[]; mailboxes: string[] | undefined; since: string };
/** `last` is the key after which the list goes on; null at its end. */
type KeyPage<T> = { items: T[]; last: string | null };

async function readPage(
  deps: ListDeliveriesDeps,
  select: Selection,
  range: { after: string | null; limit: number },
): Promise<KeyPage<Delivery>> {
  const { items, last } = await locatePage(deps, select, range);
  const read = await readDeliveries(deps, items);
  return { items: read.filter(({ state }) => select.states.includes(state)), last };
}

async function locatePage(
  deps: ListDeliveriesDeps,
  { states, mailboxes, since }: Selection,
  { after, limit }: { after: string | null; limit: number },
): Promise<KeyPage<IndexedDelivery>> {
  const range = { from: after === null ? "+" : `(${after}`, to: since, limit: limit + 1 };
  const found = await Promise.all(states.map((state) => listKeys(deps, { state, mailboxes, range })));
  // A delivery that is changing its state may be found in both states.
  const newest = [...new Map(found.flat().map((one) => [one.key, one])).values()].toSorted((a, b) =>
    a.key < b.key ? 1 : -1,
  );
  const items = newest.slice(0, limit);
  return { items, last: newest.length > limit ? (items.at(-1)?.key ?? null) : null };
}

/** So many deliveries are searched for one page, and so many of them are read together. */
const SEARCHED = 5_000;
const READ_TOGETHER = 500;

async function findText(
  deps: ListDeliveriesDeps,
  select: Selection,
  { after, limit, text }: { after: string | null; limit: number; text: string },
): Promise<KeyPage<Delivery>> {
  const found: { delivery: Delivery; key: string }[] = [];
  let last = after;
  for (let searched = 0; searched < SEARCHED; searched += READ_TOGETHER) {
    const page = await locatePage(deps, select, { after: last, limit: READ_TOGETHER });
    const read = await Promise.all(page.items.map(({ mailbox, id }) => findInDelivery(deps, { mailbox, id }, text)));
    for (const [n, { key }] of page.items.entries()) {
      const delivery = read[n];
      if (delivery && select.states.includes(delivery.state)) found.push({ delivery, key });
    }
    last = page.last;
    if (last === null || found.length > limit) break;
  }
  const items = found.slice(0, limit);
  return {
    items: items.map(({ delivery }) => delivery),
    last: found.length > limit ? (items.at(-1)?.key ?? null) : last,
  };
}

/** The mailboxes whose own lists are read; undefined for the list of all deliveries. */
type StateFilter = { state: DeliveryState; mailboxes: string[] | undefined };

/** The index over all deliveries knows no prefixes. So a prefix costs as much as its mailboxes are many. */
async function mailboxesOf(
  { redis, keys }: ListDeliveriesDeps,
  { mailbox, prefix }: DeliveryQuery,
): Promise<string[] | undefined> {
  if (mailbox !== undefined) return [mailbox].filter((id) => id.startsWith(prefix ?? ""));
  if (!prefix) return undefined;
  return textsOf(await redis.send("zrangebylex", [`${keys.globalPrefix}ids`, `[${prefix}`, `(${endOfPrefix(prefix)}`]));
}

async function listKeys(
  { redis, keys, index }: ListDeliveriesDeps,
  { state, mailboxes, range }: StateFilter & { range: KeyRange },
): Promise<IndexedDelivery[]> {
  if (mailboxes === undefined) return index.listPage({ state }, range);
  return inBatches(mailboxes, async (mailbox) => {
    const set = `${keys.mailboxPrefix(mailbox)}list:${state}`;
    const found = textsOf(await redis.send("zrevrangebylex", [set, range.from, range.to, "limit", 0, range.limit]));
    return found.map((key) => ({ key, id: idFromKey(key), mailbox }));
  });
}

async function countDeliveries(
  { redis, keys, index }: ListDeliveriesDeps,
  { state, mailboxes, since }: StateFilter & { since: string },
): Promise<number> {
  if (mailboxes === undefined) return index.countState(state, since);
  const counts = await inBatches(mailboxes, async (mailbox) => [
    numberOf(await redis.send("zlexcount", [`${keys.mailboxPrefix(mailbox)}list:${state}`, since, "+"])),
  ]);
  return counts.reduce((sum, n) => sum + n, 0);
}

/** Commands that are sent together. */
const BATCH_SIZE = 200;

async function inBatches<T>(mailboxes: string[], read: (mailbox: string) => Promise<T[]>): Promise<T[]> {
  const results: T[] = [];
  for (let start = 0; start < mailboxes.length; start += BATCH_SIZE)
    results.push(...(await Promise.all(mailboxes.slice(start, start + BATCH_SIZE).map(read))).flat());
  return results;
}

async function readDeliveries(deps: ListDeliveriesDeps, located: DeliveryLocation[]): Promise<Delivery[]> {
  const read = await Promise.all(located.map(({ mailbox, id }) => readDelivery(deps, mailbox, id)));
  return read.filter((delivery) => delivery !== undefined);
}

/** Retrying deliveries, oldest first: of an endpoint, or due and not claimed. */
export async function listRetryingDeliveries(
  deps: ListDeliveriesDeps,
  query: { limit: number; endpoint?: string; dueBefore?: string },
): Promise<Delivery[]> {
  const before = query.dueBefore === undefined ? undefined : parseTimestamp(query.dueBefore);
  const { endpoint, limit } = query;
  const located =
    endpoint !== undefined
      ? await listRetryingOfEndpoint(deps, endpoint, { before, limit })
      : before !== undefined
        ? await deps.index.listDue(before, limit)
        : await deps.index.listPage({ state: "retrying" }, { from: "-", to: "+", limit, oldestFirst: true });
  const waiting = (await readDeliveries(deps, located)).filter(({ state }) => state === "retrying");
  return waiting.toSorted((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
}

async function listRetryingOfEndpoint(
  { index }: ListDeliveriesDeps,
  endpoint: string,
  { before, limit }: { before: number | undefined; limit: number },
): Promise<DeliveryLocation[]> {
  if (before === undefined) return index.listPage({ endpoint }, { from: "-", to: "+", limit, oldestFirst: true });
  const found: DeliveryLocation[] = [];
  for (let from = "-"; ;) {
    const page = await index.listPage({ endpoint }, { from, to: "+", limit: PAGE_SIZE, oldestFirst: true });
    const times = await index.getDueTimes(page.map(({ id }) => id));
    found.push(...page.filter((_, n) => (times[n] ?? Number.POSITIVE_INFINITY) < before));
    const last = page.at(-1);
    if (found.length >= limit || page.length < PAGE_SIZE || !last) return found.slice(0, limit);
    from = `(${last.key}`;
  }
}

const PAGE_SIZE = 500;

function sortKey({ createdAt, id }: Delivery): string {
  return deliveryKey(Date.parse(createdAt), id);
}

/** A time in milliseconds. Throws `invalid` for a text that is no date. */
function parseTimestamp(date: string): number {
  const at = Date.parse(date);
  if (!Number.isNaN(at)) return at;
  throw new Problem("invalid", `"${date}" is not an ISO 8601 date`, { retry: "never" });
}
