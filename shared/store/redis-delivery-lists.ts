/** Lists of deliveries from the index in Redis, page by page. */
import type { Delivery, DeliveryState } from "../contract/delivery.ts";
import { Problem } from "../contract/problem.ts";
import type { RedisConnection } from "./redis-client.ts";
import {
  type DeliveryIndex,
  idOfKey,
  type Keyed,
  keyOf,
  type KeyRange,
  type Located,
  STATES,
  timeKey,
} from "./redis-delivery-index.ts";
import { readDelivery } from "./redis-delivery-records.ts";
import type { RedisKeys } from "./redis/keys.ts";
import { numberOf, textsOf } from "./redis-reply.ts";
import { markAfter, readMark } from "./page-token.ts";
import type { DeliveryQuery, Page } from "./store.ts";

type Deps = { redis: RedisConnection; keys: RedisKeys; index: DeliveryIndex };

/**
 * Newest first. A page may be shorter than asked for when a delivery was dropped while it was read; `next` is true all the same.
 */
export async function listedDeliveries(deps: Deps, query: DeliveryQuery): Promise<Page<Delivery>> {
  const states = query.state === undefined ? STATES : [query.state];
  const since = query.since === undefined ? "-" : `[${timeKey(instant(query.since))}`;
  const from = query.cursor === undefined ? "+" : `(${readMark(query.cursor, 1)[0]}`;
  const range = { from, to: since, limit: query.limit + 1 };
  const [found, totals] = await Promise.all([
    Promise.all(states.map((state) => keysOf(deps, { state, mailbox: query.mailbox, range }))),
    Promise.all(states.map((state) => total(deps, { state, mailbox: query.mailbox, since }))),
  ]);
  // A delivery on its way from one state to another may be found in both.
  const newest = [...new Map(found.flat().map((one) => [one.key, one])).values()].toSorted((a, b) =>
    a.key < b.key ? 1 : -1,
  );
  const page = newest.slice(0, query.limit);
  const items = await readAll(deps, page);
  const last = page.at(-1);
  return {
    items: items.filter(({ state }) => states.includes(state)),
    next: newest.length > query.limit && last ? markAfter([last.key]) : null,
    total: totals.reduce((sum, n) => sum + n, 0),
  };
}

type Wanted = { state: DeliveryState; mailbox: string | undefined };

async function keysOf(
  { redis, keys, index }: Deps,
  { state, mailbox, range }: Wanted & { range: KeyRange },
): Promise<Keyed[]> {
  if (mailbox === undefined) return index.page({ state }, range);
  const set = `${keys.mailbox(mailbox)}list:${state}`;
  const found = textsOf(await redis.send("zrevrangebylex", [set, range.from, range.to, "limit", 0, range.limit]));
  return found.map((key) => ({ key, id: idOfKey(key), mailbox }));
}

async function total(
  { redis, keys, index }: Deps,
  { state, mailbox, since }: Wanted & { since: string },
): Promise<number> {
  if (mailbox === undefined) return index.count(state, since);
  return numberOf(await redis.send("zlexcount", [`${keys.mailbox(mailbox)}list:${state}`, since, "+"]));
}

async function readAll(deps: Deps, located: Located[]): Promise<Delivery[]> {
  const read = await Promise.all(located.map(({ mailbox, id }) => readDelivery(deps, mailbox, id)));
  return read.filter((delivery) => delivery !== undefined);
}

/** Retrying deliveries of an endpoint, or due and taken by nobody, oldest first. */
export async function retryingDeliveries(
  deps: Deps,
  query: { limit: number; endpoint?: string; dueBefore?: string },
): Promise<Delivery[]> {
  const before = query.dueBefore === undefined ? undefined : instant(query.dueBefore);
  const { endpoint, limit } = query;
  const located =
    endpoint !== undefined
      ? await ofEndpoint(deps, endpoint, { before, limit })
      : before !== undefined
        ? await deps.index.due(before, limit)
        : await deps.index.page({ state: "retrying" }, { from: "-", to: "+", limit, oldestFirst: true });
  const waiting = (await readAll(deps, located)).filter(({ state }) => state === "retrying");
  return waiting.toSorted((a, b) => (sortKey(a) < sortKey(b) ? -1 : 1));
}

async function ofEndpoint(
  { index }: Deps,
  endpoint: string,
  { before, limit }: { before: number | undefined; limit: number },
): Promise<Located[]> {
  if (before === undefined) return index.page({ endpoint }, { from: "-", to: "+", limit, oldestFirst: true });
  const found: Located[] = [];
  for (let from = "-"; ;) {
    const page = await index.page({ endpoint }, { from, to: "+", limit: PAGE, oldestFirst: true });
    const times = await index.dueTimes(page.map(({ id }) => id));
    found.push(...page.filter((_, n) => (times[n] ?? Number.POSITIVE_INFINITY) < before));
    const last = page.at(-1);
    if (found.length >= limit || page.length < PAGE || !last) return found.slice(0, limit);
    from = `(${last.key}`;
  }
}

const PAGE = 500;

function sortKey({ createdAt, id }: Delivery): string {
  return keyOf(Date.parse(createdAt), id);
}

/** A time in milliseconds. Throws `invalid` for what is no date. */
function instant(date: string): number {
  const at = Date.parse(date);
  if (!Number.isNaN(at)) return at;
  throw new Problem("invalid", `"${date}" is not an ISO 8601 date`, { retry: "never" });
}
