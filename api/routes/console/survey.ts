/** How everything is now, for the first view: counts, and one row for each cause of trouble. */
import type { Delivery } from "../../../shared/contract/delivery.ts";
import { isHeld } from "../../../shared/store/endpoint-pauses.ts";
import type { Page } from "../../../shared/store/store.ts";
import { claimsToListen, isPerhapsUnverified } from "../../../shared/mail/verified.ts";
import { clock } from "../../../shared/time.ts";
import type { Readiness } from "../../deps.ts";
import type { SickEndpoint, Survey } from "../../pages/console/now.ts";
import { endpointHost, readProofs, showMailbox, type ShownMailbox } from "../../pages/console/shown-mailbox.ts";
import type { ShownState } from "../../pages/console/states.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { readNumberHistory } from "./measured/numbers.ts";
import { byWeight, deliveryCauses, mailboxCauses, nodeCauses, TROUBLED } from "./causes.ts";

const SAMPLE = 200;
const RATE_MINUTES = 10;
const LATENCY_MS = 3_600_000;

/** `seesNodes`: the caller may see the nodes and what concerns all mailboxes. */
export async function takeSurvey(deps: ScopedDeps, seesNodes: boolean): Promise<Survey> {
  const { deliveries } = deps.store;
  const since = new Date(clock.now() - RATE_MINUTES * 60_000).toISOString();
  const [all, parked, retrying, delivered, lately, tasks, nodes, readiness, history] = await Promise.all([
    collectMailboxes(deps),
    deliveries.list({ state: "parked", limit: SAMPLE }),
    deliveries.list({ state: "retrying", limit: SAMPLE }),
    // Who sees all mailboxes gets what all nodes counted. To count what is stored would take longer with each delivery.
    deps.mailboxPrefix === "" ? NONE : deliveries.list({ state: "delivered", limit: SAMPLE }),
    deps.mailboxPrefix === "" ? NONE : deliveries.list({ state: "delivered", limit: 1, since }),
    deps.countParkedTasks(),
    seesNodes ? deps.nodes.now() : undefined,
    seesNodes ? deps.ready() : ALL_WELL,
    readNumberHistory(deps),
  ]);
  return {
    total: all.total,
    isWhole: all.isWhole && parked.items.length >= parked.total,
    byState: all.byState,
    causes: [
      ...nodeCauses(readiness, seesNodes ? deps.subscriptions.unserved() : 0),
      ...mailboxCauses(all.troubled),
      ...deliveryCauses(parked, tasks ?? 0),
    ].toSorted(byWeight),
    deliveredPerMinute: history?.deliveredPerMinuteNow ?? lately.total / RATE_MINUTES,
    latencyP95: history ? history.latencyP95LastHour : percentile95(delivered.items.flatMap(latencyOf)),
    history,
    waiting: { count: retrying.total, oldest: oldestOf(retrying.items) },
    parked: { deliveries: parked.total, tasks },
    // Paused ones are causes of their own.
    endpoints: sickEndpoints(retrying.items.filter((one) => !isHeld(one))),
    nodes,
  };
}

const NONE: Pick<Page<Delivery>, "items" | "total"> = { items: [], total: 0 };
const ALL_WELL: Readiness = { ok: true, checks: [] };

/** Mailboxes in trouble whose servers are looked up, at most. Each has to be decrypted. */
const MAX_TROUBLED = 1_000;
const MAX_STATES = 50_000;
const STATES_PER_PAGE = 1_000;

type Mailboxes = Pick<Survey, "byState" | "total"> & { troubled: ShownMailbox[]; isWhole: boolean };

/** Counts by the states alone, and reads only those mailboxes that are in trouble, or perhaps not verified. */
async function collectMailboxes(deps: ScopedDeps): Promise<Mailboxes> {
  const { store, config } = deps;
  const proofs = await readProofs(deps);
  const counts = new Map<ShownState, number>();
  const add = (state: ShownState, change: number) => counts.set(state, (counts.get(state) ?? 0) + change);
  const suspects: string[] = [];
  let page: Awaited<ReturnType<typeof store.mailboxes.listStates>> | undefined;
  let counted = 0;
  do {
    const cursor: { cursor?: string } = page?.next ? { cursor: page.next } : {};
    page = await store.mailboxes.listStates({ limit: STATES_PER_PAGE, ...cursor });
    for (const { id, state } of page.items) {
      add(state.status, 1);
      const isProved = !claimsToListen(state) || (proofs.hasNews(state.node) && !isPerhapsUnverified(state, config));
      if (TROUBLED.has(state.status) || !isProved) suspects.push(id);
    }
    counted += page.items.length;
  } while (page.next !== null && counted < MAX_STATES);
  const { total } = await store.mailboxes.list({ limit: 1 });
  const read = await Promise.all(suspects.slice(0, MAX_TROUBLED).map((id) => store.mailboxes.get(id)));
  const shown = read.flatMap((item) => (item ? [showMailbox(item, proofs)] : []));
  for (const { state, shown: actual } of shown) {
    add(state.status, -1);
    add(actual, 1);
  }
  const troubled = shown.filter((one) => TROUBLED.has(one.shown));
  const isWhole = page.next === null && suspects.length <= MAX_TROUBLED;
  return { byState: Object.fromEntries(counts), total, troubled, isWhole };
}

/** Of a message that a subscription saw, delivered within the last hour. */
function latencyOf({ seenAt, updatedAt }: Delivery): number[] {
  const at = Date.parse(updatedAt);
  const isLate = clock.now() - at > LATENCY_MS;
  return isLate || seenAt === undefined ? [] : [Math.max(0, at - Date.parse(seenAt))];
}

function percentile95(values: number[]): number | null {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * 0.95) - 1)] ?? null;
}

function oldestOf(deliveries: readonly Delivery[]): string | null {
  return deliveries.at(-1)?.createdAt ?? null;
}

function sickEndpoints(retrying: readonly Delivery[]): SickEndpoint[] {
  const byHost = Map.groupBy(retrying, ({ endpoint }) => endpointHost(endpoint));
  const rows = [...byHost].map(([host, waiting]) => ({
    host,
    waiting: waiting.length,
    oldest: oldestOf(waiting) ?? "",
    reason: waiting[0]?.reason ?? "",
    nextAttemptAt: waiting.map(({ nextAttemptAt }) => nextAttemptAt ?? "").toSorted()[0] ?? null,
  }));
  return rows.toSorted((a, b) => b.waiting - a.waiting);
}
