/** Looks for what is wrong, as cheaply as can be: by the indexes of the store and by checks of our own servers. */
import { graphRootOf } from "../../shared/contract/graph.ts";
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { Mailbox, MailboxStatus } from "../../shared/contract/mailbox.ts";
import type { MailboxWithState } from "../../shared/store/store.ts";
import type { CheckDeps, CheckName } from "../checks/check.ts";
import { checkRunner } from "../checks/runner.ts";
import type { Found } from "./book.ts";

const PAGE = 500;
/** Of each status. More of them hardly have further causes. */
const MAX_MAILBOXES = 5_000;
const MAX_DELIVERIES = 500;
/** A first failure may be a restart of the endpoint. */
const FAILED_ATTEMPTS = 3;
/** Checks that ask nobody but the service's own servers. */
const OWN_CHECKS: readonly CheckName[] = ["keys", "nodes", "rabbitmq", "disk"];
const ACTOR = { id: "alarms", name: "the alarms" };

export async function findCauses(deps: CheckDeps, signal: AbortSignal): Promise<Found[]> {
  const [lost, reconnecting, endpoints, own] = await Promise.all([
    mailboxCauses(deps, "needs_attention", signal),
    mailboxCauses(deps, "reconnecting", signal),
    endpointCauses(deps),
    ownCauses(deps, signal),
  ]);
  const causes = [...lost, ...reconnecting, ...endpoints, ...own];
  const groups = Map.groupBy(causes, ({ code, place }) => JSON.stringify([code, place]));
  return [...groups.values()].flatMap(merge);
}

/** One cause of those with the same code and place. */
function merge(group: Found[]): Found[] {
  const [first] = group;
  if (!first) return [];
  const count = group.reduce((sum, one) => sum + one.count, 0);
  return [{ ...first, count, certain: group.some(({ certain }) => certain) }];
}

async function mailboxCauses({ store }: CheckDeps, status: MailboxStatus, signal: AbortSignal): Promise<Found[]> {
  const causes: Found[] = [];
  let cursor: string | undefined;
  let seen = 0;
  do {
    signal.throwIfAborted();
    const page = await store.mailboxes.list({ status, limit: PAGE, ...(cursor !== undefined && { cursor }) });
    causes.push(...page.items.flatMap((item) => mailboxCause(item, status === "needs_attention")));
    seen += page.items.length;
    cursor = page.next ?? undefined;
  } while (cursor !== undefined && seen < MAX_MAILBOXES);
  return causes;
}

function mailboxCause({ mailbox, state: { problem } }: MailboxWithState, certain: boolean): Found[] {
  if (!problem) return [];
  const { code, cause, fix } = problem;
  const place = code === "endpoint_gone" ? hostOf(mailbox.deliver.url) : serverOf(mailbox);
  return [{ code, place, count: 1, cause, fix, certain }];
}

/** The host that the mailbox is received from; for Exchange without a host the domain of its address. */
function serverOf({ receive, address }: Mailbox): string {
  if (receive.protocol === "graph") return hostOf(graphRootOf(receive));
  if (receive.host !== undefined) return receive.host.toLowerCase();
  if ("url" in receive && receive.url !== undefined) return hostOf(receive.url);
  return address.slice(address.lastIndexOf("@") + 1).toLowerCase();
}

function hostOf(url: string): string {
  return URL.parse(url)?.host ?? url;
}

async function endpointCauses({ store }: CheckDeps): Promise<Found[]> {
  const [retrying, parked] = await Promise.all([
    store.deliveries.list({ state: "retrying", limit: MAX_DELIVERIES }),
    store.deliveries.list({ state: "parked", limit: MAX_DELIVERIES }),
  ]);
  const failing = retrying.items.filter(({ attemptCount }) => attemptCount >= FAILED_ATTEMPTS);
  return [...parked.items, ...failing].map(endpointCause);
}

function endpointCause({ endpoint, reason, state }: Delivery): Found {
  const cause = reason ?? `A delivery is ${state}`;
  const fix = "Look at the attempts (GET /api/v1/deliveries). Fix the endpoint, then replay what is parked.";
  return { code: "endpoint", place: hostOf(endpoint), count: 1, cause, fix, certain: state === "parked" };
}

async function ownCauses(deps: CheckDeps, signal: AbortSignal): Promise<Found[]> {
  const results = await checkRunner(deps, signal).run(OWN_CHECKS, { actor: ACTOR });
  return results.flatMap(({ status, name, cause = "", fix = "" }): Found[] =>
    status === "failed" ? [{ code: name, place: "the service", count: 1, cause, fix, certain: false }] : [],
  );
}
