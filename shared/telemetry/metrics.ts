/** Facts and counts as Prometheus metrics, in a registry of their own. No label names a mailbox, so the series stay few. */
import prometheus from "prom-client";
import type { Fact } from "./events.ts";

type Counts = Record<string, number>;

/** What is counted when somebody asks, rather than kept up with. */
export type Counted = {
  mailboxes: { byStatus: Counts; wanted?: number };
  /** Mailboxes that no node has room for. */
  unserved?: number;
  /** Deliveries by state, and `spoolBytes`. */
  deliveries: Counts;
  /** Null while the broker is away. `waitedSeconds` is no count but how long tasks taken lately had waited. */
  tasks: Counts | null;
  connections: { open: number };
};

export type Metrics = {
  /** To be subscribed to the facts. */
  listen(fact: Fact): void;
  /** The metrics now, in Prometheus' text format. */
  render(): Promise<string>;
  contentType: string;
};

/** The metrics of this process; `count` is asked at each rendering. */
export function metrics(count: () => Promise<Counted>): Metrics {
  const registry = new prometheus.Registry();
  prometheus.collectDefaultMetrics({ register: registry });
  const counters = countersIn(registry);
  const gauges = gaugesIn(registry);
  return {
    listen(fact) {
      counted(counters, fact);
    },
    async render() {
      // While the store is away its counts are unknown, and that is what is told: the rest is wanted all the more.
      const known = await count().catch(() => undefined);
      gauges.store.set(known ? 1 : 0);
      if (known) gauged(gauges, known);
      else unknown(gauges);
      return registry.metrics();
    },
    contentType: registry.contentType,
  };
}

const name = (what: string) => `email_listener_${what}`;

function countersIn(registry: prometheus.Registry) {
  const registers = [registry];
  const counter = <L extends string>(what: string, help: string, labelNames: L[]) =>
    new prometheus.Counter({ name: name(what), help, labelNames, registers });
  return {
    arrivals: counter("arrivals_total", "Messages seen by subscriptions and handed over", []),
    deliveries: counter("deliveries_total", "Messages by what became of them", ["outcome"]),
    attempts: counter("attempts_total", "POSTs to endpoints by their result", ["result"]),
    problems: counter("problems_total", "Problems met, by code; they may have been mended by trying again", ["code"]),
    sendings: counter("sendings_total", "Outgoing messages by what became of an attempt", ["outcome"]),
    overruns: counter("overruns_total", "Runs of polled mailboxes that took longer than their interval", []),
    rests: counter("endpoint_rests_total", "Times an endpoint failed so often that it was left alone for a while", []),
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
    mailboxes: gauge("mailboxes", "Registered mailboxes by status", ["status"]),
    wanted: gauge(
      "mailboxes_wanted",
      "Mailboxes that should be listened to, by all nodes together, connected or not",
      [],
    ),
    unserved: gauge("mailboxes_unserved", "Mailboxes that nobody listens to because no node has room for them", []),
    kept: gauge("deliveries", "Deliveries remembered by state", ["state"]),
    spool: gauge("spool_bytes", "Raw bytes kept of messages that wait or are parked", []),
    tasks: gauge("tasks", "Tasks in the queue by state", ["state"]),
    wait: gauge("task_wait_seconds", "Longest wait of a task for a worker, of those taken here in the last minute", []),
    connections: gauge("connections_open", "Open connections of subscriptions", []),
  };
}

function gauged(gauges: ReturnType<typeof gaugesIn>, known: Counted): void {
  const { mailboxes, unserved, deliveries, tasks, connections } = known;
  const { spoolBytes = 0, ...states } = deliveries;
  // A status nobody has any more must not keep its last count.
  gauges.mailboxes.reset();
  for (const [status, n] of Object.entries(mailboxes.byStatus)) gauges.mailboxes.set({ status }, n);
  for (const [state, n] of Object.entries(states)) gauges.kept.set({ state }, n);
  gauges.tasks.reset();
  const { waitedSeconds = 0, ...waiting } = tasks ?? {};
  for (const [state, n] of Object.entries(waiting)) gauges.tasks.set({ state }, n);
  gauges.wait.set(waitedSeconds);
  // A worker does not know, which is not the same as none.
  if (mailboxes.wanted === undefined) gauges.wanted.remove();
  else gauges.wanted.set(mailboxes.wanted);
  if (unserved === undefined) gauges.unserved.remove();
  else gauges.unserved.set(unserved);
  gauges.spool.set(spoolBytes);
  gauges.connections.set(connections.open);
}

/** What was counted last is not told as if it still held. */
function unknown(gauges: ReturnType<typeof gaugesIn>): void {
  for (const gauge of [gauges.mailboxes, gauges.kept, gauges.tasks]) gauge.reset();
  for (const gauge of [gauges.wanted, gauges.unserved, gauges.wait, gauges.spool, gauges.connections]) gauge.remove();
}

type Counters = ReturnType<typeof countersIn>;

function counted(counters: Counters, fact: Fact): void {
  if ("failure" in fact && fact.failure) counters.problems.inc({ code: fact.failure.code });
  BY_KIND[fact.kind]?.(counters, fact);
}

/** Methods with a series of their own; a client can send any word. */
const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/** What one kind of fact counts; each entry sees the facts of its own kind only. */
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
  "mailbox.overran": ({ overruns }) => overruns.inc(),
  "mail.gone": ({ deliveries }) => deliveries.inc({ outcome: "gone" }),
  "send.sent": ({ sendings }) => sendings.inc({ outcome: "sent" }),
  "send.retrying": ({ sendings }) => sendings.inc({ outcome: "retrying" }),
  "send.failed": ({ sendings }) => sendings.inc({ outcome: "failed" }),
  "send.unknown": ({ sendings }) => sendings.inc({ outcome: "unknown" }),
  "send.bounced": ({ sendings }) => sendings.inc({ outcome: "bounced" }),
  "endpoint.rested": ({ rests }) => rests.inc(),
  "endpoint.gone": ({ problems }) => problems.inc({ code: "endpoint_gone" }),
  "http.answered": ofKind("http.answered", ({ http }, { method, route, status, ms }) => {
    http.observe({ method: METHODS.has(method) ? method : "other", route, status }, ms / 1000);
  }),
};

function ofKind<K extends Fact["kind"]>(
  kind: K,
  count: (counters: Counters, fact: Extract<Fact, { kind: K }>) => void,
) {
  const isOurs = (fact: Fact): fact is Extract<Fact, { kind: K }> => fact.kind === kind;
  return (counters: Counters, fact: Fact) => {
    if (isOurs(fact)) count(counters, fact);
  };
}
