/**
 * Facts and counts as Prometheus metrics, in a registry of their own. No label names a mailbox, so the number of series
 * stays small.
 */
import prometheus from "prom-client";
import { clock, withTimeout } from "../time.ts";
import type { Fact } from "./events.ts";

type Counts = Record<string, number>;

/** What the store counts at each request for the metrics. */
export type StoreCounts = {
  mailboxes: { byStatus: Counts; enabled?: number };
  /** Deliveries by state, and `spoolBytes`. */
  deliveries: Counts;
  size?: { usedBytes: number; limitBytes: number | null };
  /** When the first certificate of an application expires, in seconds since 1970. */
  applicationExpires?: number | null;
  /** When the first token of the API ends, in the same unit. */
  tokenExpires?: number | null;
};

/** What a node knows by itself. */
type NodeCounts = {
  connections: { open: number };
  /** Mailboxes without a node, because all nodes are full. */
  unserved?: number;
  /** Whether the node takes tasks and mailboxes. */
  isReady?: boolean;
  /** Whether the broker accepts tasks. */
  isQueueUp?: boolean;
};

/** Where the figures come from. The store or the queue may be away, or hang. */
export type MetricSources = {
  /** Resolves when the store answers. */
  ping: () => Promise<void>;
  store: () => Promise<StoreCounts>;
  /**
   * Tasks by state, null while they cannot be counted. `longestWaitSeconds` is the longest wait of the tasks that
   * started in the last minute.
   */
  tasks: () => Promise<Counts | null>;
  node: () => NodeCounts;
};

export type Metrics = {
  /** Subscribe this to the facts. */
  onFact(fact: Fact): void;
  /** The metrics now, in Prometheus' text format. */
  render(): Promise<string>;
  contentType: string;
};

/** How long a rendering waits for the store and the queue. Prometheus must get the rest of the metrics in any case. */
const COUNT_MS = 700;
/** If counting takes longer than that, the last figures are shown, but none that are older. */
const KEPT_MS = 60_000;

/** How often the delay of the event loop is measured. Each time wakes the process, which costs more than the rest of an idle node. */
const LOOP_PRECISION_MS = 200;

/** The metrics of this process. It asks the sources at each rendering, and takes less than a second. */
export function metrics(sources: MetricSources): Metrics {
  const registry = new prometheus.Registry();
  prometheus.collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: LOOP_PRECISION_MS });
  const counters = countersIn(registry);
  const gauges = gaugesIn(registry);
  const countStore = keepRecent(sources.store);
  const countTasks = keepRecent(sources.tasks);
  return {
    onFact(fact) {
      countFact(counters, fact);
    },
    async render() {
      const [isUp, counts, tasks] = await Promise.all([answersInTime(sources.ping), countStore(), countTasks()]);
      setNodeGauges(gauges, sources.node(), tasks !== null);
      gauges.store.set(Number(isUp));
      setStoreGauges(gauges, isUp ? counts : null);
      setTaskGauges(gauges, tasks);
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
}

function answersInTime(ping: () => Promise<void>): Promise<boolean> {
  return withTimeout(COUNT_MS, "The store", ping()).then(
    () => true,
    () => false,
  );
}

/**
 * Counts once at a time. Resolves with the figures if they come in time, else with the last ones, or with null when there
 * are none, and when counting failed: unknown figures are left out.
 */
function keepRecent<T>(count: () => Promise<T | null>): () => Promise<T | null> {
  let last: { figures: T | null; at: number } | undefined;
  let running: Promise<void> | undefined;
  const run = async () => {
    const figures = await count().catch(() => null);
    last = { figures, at: clock.monotonic() };
    running = undefined;
  };
  return async () => {
    running ??= run();
    await withTimeout(COUNT_MS, "Counting", running).catch(() => undefined);
    return last && clock.monotonic() - last.at < KEPT_MS ? last.figures : null;
  };
}

const name = (what: string) => `email_listener_${what}`;
/** The help text of a metric that keeps its old name for one release. */
const oldNameOf = (what: string) => `Old name of ${name(what)}, removed in 0.3`;

/** Series that begin at 0, so that Prometheus sees the first message as an increase. */
const OUTCOMES = ["delivered", "duplicate", "filtered", "gone", "parked"];

function countersIn(registry: prometheus.Registry) {
  const counters = makeCounters(registry);
  for (const outcome of OUTCOMES) counters.deliveries.inc({ outcome }, 0);
  return counters;
}

function makeCounters(registry: prometheus.Registry) {
  const registers = [registry];
  const counter = <L extends string>(what: string, help: string, labelNames: L[]) =>
    new prometheus.Counter({ name: name(what), help, labelNames, registers });
  return {
    arrivals: counter("arrivals_total", "Messages that subscriptions found and handed over", []),
    deliveries: counter("deliveries_total", "Messages by their result", ["outcome"]),
    attempts: counter("attempts_total", "POSTs to endpoints by their result", ["result"]),
    problems: counter("problems_total", "Problems by code; a later attempt may have succeeded", ["code"]),
    sendings: counter("sendings_total", "Outgoing messages by the result of an attempt", ["outcome"]),
    overruns: [
      counter("poll_overruns_total", "Runs of polled mailboxes that took longer than their interval", []),
      counter("overruns_total", oldNameOf("poll_overruns_total"), []),
    ],
    pauses: [
      counter("endpoint_pauses_total", "How often the circuit breaker paused an endpoint", []),
      counter("endpoint_rests_total", oldNameOf("endpoint_pauses_total"), []),
    ],
    refused: counter("refused_credentials_total", "Requests with a wrong token or wrong credentials", []),
    limited: counter("limited_addresses_total", "How often an address was limited after wrong credentials", []),
    delivery: new prometheus.Histogram({
      name: name("delivery_seconds"),
      help: "From the mail server's arrival time of a message to its endpoint's 2xx. IMAP's INTERNALDATE has whole seconds: subtract half a second on average",
      buckets: [0.1, 0.25, 0.5, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 1800, 7200, 86400],
      registers,
    }),
    http: new prometheus.Histogram({
      name: name("http_seconds"),
      help: "Answered HTTP requests by route and status",
      labelNames: ["method", "route", "status"],
      buckets: [0.005, 0.025, 0.1, 0.5, 2.5, 10, 60],
      registers,
    }),
  };
}

function gaugesIn(registry: prometheus.Registry) {
  const gauge = <L extends string>(what: string, help: string, labelNames: L[]) =>
    new prometheus.Gauge({ name: name(what), help, labelNames, registers: [registry] });
  return {
    store: gauge("store_up", "1 while the store answers, 0 while it does not and its counts are left out", []),
    storeUsed: gauge("store_used_bytes", "Memory of Redis, or size of the SQLite file", []),
    storeLimit: gauge("store_limit_bytes", "maxmemory of Redis, or what the disk has room for; none if unknown", []),
    expires: gauge("application_expires_seconds", "When the first certificate of an application expires", []),
    tokenExpires: gauge("token_expires_seconds", "When the first token of the API that has an end ends", []),
    queue: gauge("queue_up", "1 while the queue accepts tasks and can be counted, else 0", []),
    mailboxes: gauge("mailboxes", "Registered mailboxes by status", ["status"]),
    enabled: [
      gauge("mailboxes_enabled", "Enabled mailboxes of all nodes together, connected or not", []),
      gauge("mailboxes_wanted", oldNameOf("mailboxes_enabled"), []),
    ],
    unserved: gauge("mailboxes_unserved", "Mailboxes without a node, because all nodes are full", []),
    ready: gauge("ready", "1 while this node does its work, 0 while its store is away or a key is missing", []),
    parked: gauge("parked", "What is parked until a person replays it: deliveries and tasks", ["kind"]),
    kept: gauge("deliveries", "Stored deliveries by state", ["state"]),
    spool: gauge("spool_bytes", "Raw bytes of messages that wait or are parked", []),
    tasks: gauge("tasks", "Tasks in the queue by state", ["state"]),
    wait: gauge("task_wait_seconds", "Longest wait of the tasks that this process took in the last minute", []),
    connections: gauge("connections_open", "Open connections of subscriptions", []),
  };
}

type Gauges = ReturnType<typeof gaugesIn>;

function setNodeGauges(
  gauges: Gauges,
  { connections, unserved, isReady = true, isQueueUp = true }: NodeCounts,
  isCounted: boolean,
) {
  gauges.ready.set(Number(isReady));
  gauges.queue.set(Number(isQueueUp && isCounted));
  setOrRemove(gauges.unserved, unserved);
  gauges.connections.set(connections.open);
}

/** A count that is unknown must not look as if it were current. */
function setStoreGauges(gauges: Gauges, counts: StoreCounts | null): void {
  // Reset, so that a status which no mailbox has any more does not keep its last count.
  for (const gauge of [gauges.mailboxes, gauges.kept]) gauge.reset();
  const { mailboxes, deliveries = {}, size, applicationExpires, tokenExpires } = counts ?? {};
  const { spoolBytes = counts ? 0 : undefined, ...states } = deliveries;
  for (const [status, n] of Object.entries(mailboxes?.byStatus ?? {})) gauges.mailboxes.set({ status }, n);
  for (const [state, n] of Object.entries(states)) gauges.kept.set({ state }, n);
  // A worker does not know this number, which is not the same as zero.
  for (const gauge of gauges.enabled) setOrRemove(gauge, mailboxes?.enabled);
  setOrRemove(gauges.spool, spoolBytes);
  setOrRemove(gauges.expires, applicationExpires ?? undefined);
  setOrRemove(gauges.tokenExpires, tokenExpires ?? undefined);
  setOrRemove(gauges.storeUsed, size?.usedBytes);
  setOrRemove(gauges.storeLimit, size?.limitBytes ?? undefined);
  gauges.parked.reset();
  if (counts) gauges.parked.set({ kind: "delivery" }, states["parked"] ?? 0);
}

function setTaskGauges(gauges: Gauges, tasks: Counts | null): void {
  gauges.tasks.reset();
  const { longestWaitSeconds = 0, ...states } = tasks ?? {};
  for (const [state, n] of Object.entries(states)) gauges.tasks.set({ state }, n);
  setOrRemove(gauges.wait, tasks ? longestWaitSeconds : undefined);
  if (tasks) gauges.parked.set({ kind: "task" }, states["parked"] ?? 0);
}

function setOrRemove(gauge: prometheus.Gauge, value: number | undefined): void {
  if (value === undefined) gauge.remove();
  else gauge.set(value);
}

type Counters = ReturnType<typeof countersIn>;

function countFact(counters: Counters, fact: Fact): void {
  if ("failure" in fact && fact.failure) counters.problems.inc({ code: fact.failure.code });
  BY_KIND[fact.kind]?.(counters, fact);
}

/** Methods with a series of their own, because a client can send any word. */
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/** What each kind of fact counts. Each entry gets only facts of its own kind. */
const BY_KIND: Partial<Record<Fact["kind"], (counters: Counters, fact: Fact) => void>> = {
  "mail.arrived": ofKind("mail.arrived", ({ arrivals }, { count }) => arrivals.inc(count)),
  "mail.delivered": ofKind("mail.delivered", ({ deliveries, attempts, delivery }, { ms }) => {
    deliveries.inc({ outcome: "delivered" });
    attempts.inc({ result: "accepted" });
    delivery.observe(Math.max(0, ms) / 1000);
  }),
  "mail.retrying": ({ attempts, problems }) => {
    attempts.inc({ result: "refused" });
    problems.inc({ code: "endpoint" });
  },
  "mail.parked": ofKind("mail.parked", ({ deliveries, attempts }, fact) => {
    deliveries.inc({ outcome: "parked" });
    if (fact.attempts > 0) attempts.inc({ result: "refused" });
  }),
  "mail.duplicate": ({ deliveries }) => deliveries.inc({ outcome: "duplicate" }),
  "mail.filtered": ({ deliveries }) => deliveries.inc({ outcome: "filtered" }),
  "mailbox.poll_overran": ({ overruns }) => overruns.forEach((counter) => counter.inc()),
  "mail.gone": ({ deliveries }) => deliveries.inc({ outcome: "gone" }),
  "send.sent": ({ sendings }) => sendings.inc({ outcome: "sent" }),
  "send.retrying": ({ sendings }) => sendings.inc({ outcome: "retrying" }),
  "send.failed": ({ sendings }) => sendings.inc({ outcome: "failed" }),
  "send.unknown": ({ sendings }) => sendings.inc({ outcome: "unknown" }),
  "send.bounced": ({ sendings }) => sendings.inc({ outcome: "bounced" }),
  "endpoint.paused": ({ pauses }) => pauses.forEach((counter) => counter.inc()),
  "access.refused": ({ refused }) => refused.inc(),
  "access.limited": ({ limited }) => limited.inc(),
  "endpoint.gone": ({ problems }) => problems.inc({ code: "endpoint_gone" }),
  "http.answered": ofKind("http.answered", ({ http }, { method, route, status, ms }) => {
    http.observe({ method: METHODS.has(method) ? method : "other", route, status }, ms / 1000);
  }),
};

function ofKind<K extends Fact["kind"]>(
  kind: K,
  count: (counters: Counters, fact: Extract<Fact, { kind: K }>) => void,
) {
  const isOfKind = (fact: Fact): fact is Extract<Fact, { kind: K }> => fact.kind === kind;
  return (counters: Counters, fact: Fact) => {
    if (isOfKind(fact)) count(counters, fact);
  };
}
