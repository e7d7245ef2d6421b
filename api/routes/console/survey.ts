/** How everything is now, for the first view: counts, and one row for each cause of trouble. */
import type { Delivery } from "../../../shared/contract/delivery.ts";
import { clock } from "../../../shared/time.ts";
import type { Readiness } from "../../deps.ts";
import type { SickEndpoint, Survey } from "../../pages/console/now.ts";
import { endpointHost, type ShownMailbox } from "../../pages/console/shown-mailbox.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";
import { deliveryCauses, mailboxCauses, nodeCauses } from "./causes.ts";
import { scanMailboxes } from "./scan.ts";

const SAMPLE = 200;
const RATE_MINUTES = 10;
const LATENCY_MS = 3_600_000;

/** `seesNodes`: the caller may see the nodes and what concerns all mailboxes. */
export async function takeSurvey(deps: ScopedDeps, seesNodes: boolean): Promise<Survey> {
  const { deliveries } = deps.store;
  const since = new Date(clock.now() - RATE_MINUTES * 60_000).toISOString();
  const [all, parked, retrying, delivered, lately, tasks, nodes, readiness] = await Promise.all([
    collectMailboxes(deps),
    deliveries.list({ state: "parked", limit: SAMPLE }),
    deliveries.list({ state: "retrying", limit: SAMPLE }),
    deliveries.list({ state: "delivered", limit: SAMPLE }),
    deliveries.list({ state: "delivered", limit: 1, since }),
    deps.countParkedTasks(),
    seesNodes ? deps.nodes.now() : undefined,
    seesNodes ? deps.ready() : ALL_WELL,
  ]);
  const counts = Map.groupBy(all.mailboxes, ({ shown }) => shown);
  return {
    total: all.total,
    isWhole: all.mailboxes.length >= all.total && parked.items.length >= parked.total,
    byState: Object.fromEntries([...counts].map(([state, { length }]) => [state, length])),
    causes: [
      ...nodeCauses(readiness, seesNodes ? deps.subscriptions.unserved() : 0),
      ...mailboxCauses(all.mailboxes),
      ...deliveryCauses(parked, tasks ?? 0),
    ],
    deliveredPerMinute: lately.total / RATE_MINUTES,
    latencyP95: percentile95(delivered.items.flatMap(latencyOf)),
    waiting: { count: retrying.total, oldest: oldestOf(retrying.items) },
    parked: { deliveries: parked.total, tasks },
    endpoints: sickEndpoints(retrying.items),
    nodes,
  };
}

const ALL_WELL: Readiness = { ok: true, checks: [] };

async function collectMailboxes(deps: ScopedDeps): Promise<{ mailboxes: ShownMailbox[]; total: number }> {
  const mailboxes: ShownMailbox[] = [];
  const [{ total }] = await Promise.all([
    deps.store.mailboxes.list({ limit: 1 }),
    (async () => {
      for await (const mailbox of scanMailboxes(deps, {})) mailboxes.push(mailbox);
    })(),
  ]);
  return { mailboxes, total };
}

/** Of a message with a date of its server, delivered within the last hour. */
function latencyOf({ ref, updatedAt }: Delivery): number[] {
  const at = Date.parse(updatedAt);
  const isLate = clock.now() - at > LATENCY_MS;
  return isLate || ref.undated ? [] : [Math.max(0, at - Date.parse(ref.receivedAt))];
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
