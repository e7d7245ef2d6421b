#!/usr/local/bin/runtime
/** The API node's composition root: reads the settings, opens everything, runs the parts together, and closes in reverse order. */
import process from "node:process";
import manifest from "../package.json" with { type: "json" };
import { type Config, readConfig } from "../shared/config.ts";
import { listSettingWarnings } from "../shared/setting-warnings.ts";
import { asProblem } from "../shared/contract/problem.ts";
import { backendServers } from "../shared/backends.ts";
import { egress, portOfUrl } from "../shared/egress.ts";
import { discoverMailServers } from "../shared/mail/discovery/discover.ts";
import { nameServers } from "../shared/mail/discovery/records.ts";
import type { MailConnection } from "../shared/mail/mail.ts";
import { type ProbeEndpoint, runPreflight } from "../shared/mail/open.ts";
import { purgeRecords } from "../shared/record/stored.ts";
import { type Node, openNode } from "../shared/node.ts";
import { findApiFault } from "../shared/queue/broker-state.ts";
import { getTaskDepth } from "../shared/queue/depth.ts";
import type { PerformTask } from "../shared/queue/queue.ts";
import { wakeup } from "../shared/concurrency/wakeup.ts";
import { type Part, runInside, shutdownSignal } from "../shared/run.ts";
import { history } from "../shared/telemetry/history.ts";
import { type Metrics, metrics } from "../shared/telemetry/metrics.ts";
import { tallies } from "../shared/telemetry/tallies.ts";
import { sleep } from "../shared/time.ts";
import { worker } from "../worker/tasks/dispatch.ts";
import { createApp } from "./app.ts";
import { collectStoreCounts } from "./counts.ts";
import type { ApiDeps, Probes, Readiness } from "./deps.ts";
import { openOwnership } from "./lease/acquire.ts";
import { connectionBoard } from "./listen/connections.ts";
import { stateRecorder } from "./listen/recorder.ts";
import { mailboxStates } from "./listen/states.ts";
import { mailboxSubscriptions } from "./listen/subscriptions.ts";
import { callbackScheduler } from "./routes/creatio/callbacks.ts";
import { closedMailboxRemover } from "./closed-mailboxes.ts";
import { bulkRunner } from "./bulk/runner.ts";
import { alarmWatch } from "./alarms/watch.ts";
import { hintRelay } from "./hint-relay.ts";
import { serve } from "./http/server.ts";
import { probeEndpoint } from "./probe-endpoint.ts";
import { mailVisits } from "./mail-visits.ts";

const TRIM_EVERY_MS = 600_000;
/** How many tasks an API node performs at once while there are no workers. */
const STAND_IN_CONCURRENCY = 8;

type StartOptions = {
  /** Warnings about the settings, reported at the start. */
  warnings?: readonly string[];
  /** Called with the node's URL once it answers there. */
  onStarted?: (url: string) => void;
  /** The endpoint that the console offers to somebody who has none. */
  demoEndpoint?: string;
};

/**
 * Runs an API node until the signal aborts, and resolves once everything is closed. Rejects when it cannot start or a
 * part fails.
 */
export async function runApiNode(config: Config, stop: AbortSignal, options: StartOptions = {}): Promise<void> {
  const node = await openNode(config, options.warnings ?? []);
  try {
    await runApi(node, stop, options);
  } finally {
    await node.close();
  }
}

async function runApi(node: Node, stop: AbortSignal, { onStarted, demoEndpoint }: StartOptions): Promise<void> {
  const { config, store, queue, facts, backoff, connect, logins, sealing, graphPush } = node;
  const { emit } = facts;
  const watched = new Map<string, MailConnection>();
  const standIn = config.RABBITMQ_URL.length > 0;
  const concurrency = standIn ? STAND_IN_CONCURRENCY : config.WORKER_CONCURRENCY;
  const localWorker = worker({ ...node, store: node.served, tasks: queue, emit, watched, concurrency });

  const boards = boardsOf(node);
  const ownership = await openOwnership(node, () => nodeSubscriptions.connections().subscriptions);
  const { mailboxes, applications, cursors, deliveries } = node.served;
  const listening = { mailboxes, applications, cursors, deliveries, tasks: queue, ownership, backoff, logins };
  const nodeSubscriptions = mailboxSubscriptions({ ...listening, ...boards, connect, watched, emit });
  const connections = () => ({ ...nodeSubscriptions.connections(), readers: localWorker.readers.count() });
  const { unserved } = nodeSubscriptions;
  const metricsRegistry = nodeMetrics(node, () => ({ unserved: unserved(), connections: connections() }));
  facts.subscribe(metricsRegistry.onFact);

  const wake = () => {
    nodeSubscriptions.wake();
    ownership.announce();
  };
  const { crm, postAlarm, postTest, inHand } = localWorker;
  const graphHints = hintRelay(graphPush, ownership.hints);
  const answering = { ...visitsOf(node), crm, postAlarm, postTest, logins, outbound: node.mail, sealing, graphHints };
  const appDeps = {
    store,
    tasks: queue,
    parked: queue,
    config,
    demoEndpoint,
    version: manifest.version,
    facts,
    metrics: metricsRegistry,
    ...answering,
    probes: probesOf(node),
    ready: () => checkReadiness(node),
  };
  const subscriptions = { wake, connections, unserved };
  const { app, parts: watching } = openApp({ ...appDeps, subscriptions, nodes: ownership.nodes }, stop);
  const server = await serve(app.fetch, { host: config.HOST, port: config.PORT });
  reportStart(node, server.url + config.BASE_PATH);
  onStarted?.(server.url + config.BASE_PATH);

  const parts: Part[] = [
    { name: "subscriptions", run: nodeSubscriptions.run },
    taskTaker(node, localWorker.perform, { concurrency: inHand, standIn }),
    ...localWorker.parts,
    ...watching,
    { name: "trimming", run: (signal) => trimPeriodically(node, signal) },
  ];
  // These parts end last: they record what the others report while they stop, and they hold what the others need
  // until then.
  const outerParts: Part[] = [
    { name: "states", run: boards.board.run },
    { name: "connections", run: boards.connections.run },
    history({ facts, append: store.facts.append }),
    tallies({ facts, count: store.measures.count }),
    stateRecorder({ ...store, facts, board: boards.board, node: node.name, periods: config }),
    { name: "readiness", run: node.readiness.run },
    ...ownership.parts,
  ];
  try {
    await runInside(outerParts, parts, stop);
  } finally {
    await server.close();
    await localWorker.close();
  }
}

/** Where the subscriptions of this node report their states, and what is known of their connections. */
function boardsOf({ store, facts: { emit }, name, mail }: Node) {
  const tokenEndOf = (mailbox: string) => mail.tokens?.endOf(mailbox);
  const connections = connectionBoard({ connections: store.connections, tokenEndOf, emit });
  return { board: mailboxStates({ mailboxes: store.mailboxes, emit, node: name }), connections };
}

/** The app, with the parts that look at the store from time to time. */
function openApp(deps: Omit<ApiDeps, "wakeBulk">, stop: AbortSignal) {
  const wake = wakeup();
  const apiDeps: ApiDeps = { ...deps, wakeBulk: wake.trigger };
  const app = createApp(apiDeps, stop);
  const bulk = bulkRunner({ ...deps, wake, callApi: async (actor, request) => app.fetch(request, { actor }) });
  return { app, parts: [callbackScheduler(apiDeps), alarmWatch(apiDeps), closedMailboxRemover(apiDeps), bulk] };
}

/** What HTTP requests ask of mail servers. */
function visitsOf({ config, connect, serve: serveMailbox, mail: deps }: Node): Pick<ApiDeps, "mail" | "discover"> {
  const probe: ProbeEndpoint = (mailbox, signal) => probeEndpoint(deps, mailbox, signal);
  const records = nameServers(config.DNS_SERVERS);
  return {
    mail: mailVisits({
      connect,
      serve: serveMailbox,
      preflight: (mailbox, signal) => runPreflight({ ...deps, probeEndpoint: probe }, mailbox, signal),
    }),
    discover: (address, signal) => discoverMailServers({ ...deps, records }, address, signal),
  };
}

function probesOf({ config, ...node }: Node): Probes {
  const own = { backends: backendServers(config), host: config.HOST, ports: new Set<number>() };
  return { ...node, ownEgress: egress("allow", { nat64: config.NAT64_PREFIXES, own }) };
}

/** Performs tasks while the node is ready. With `standIn` it takes only what workers have no room for. */
function taskTaker(
  { queue, readiness }: Node,
  perform: PerformTask,
  options: { concurrency: number; standIn: boolean },
): Part {
  const take = (signal: AbortSignal) => queue.run(perform, options, signal);
  return { name: "tasks", run: (signal) => readiness.runWhileReady(take, signal) };
}

function reportStart({ config, store, queue, ownPorts, facts: { emit } }: Node, url: string): void {
  ownPorts.add(portOfUrl(new URL(url)));
  const on = { store: store.description, queue: queue.description };
  emit({ kind: "service.started", version: manifest.version, url, ...on });
  if (config.CRM_ACCESS.some(({ kind }) => kind === "open"))
    emit({ kind: "service.warned", about: "CRM_ACCESS is open: everybody who reaches this port may act as a CRM" });
  if (config.API_TOKENS.length > 0) return;
  emit({ kind: "service.warned", about: "No API_TOKENS: only programs on this machine may call (127.0.0.1)" });
}

function nodeMetrics(
  { store, queue, readiness }: Node,
  count: () => { unserved: number; connections: { open: number } },
): Metrics {
  return metrics({
    ping: store.ping,
    store: () => collectStoreCounts(store),
    tasks: async () => (await getTaskDepth(queue)).tasks,
    node: () => ({
      ...count(),
      isReady: readiness.problem === null,
      isQueueUp: !queue.broker?.().sending.problem,
    }),
  });
}

async function checkReadiness({ readiness, queue }: Node): Promise<Readiness> {
  const broker = queue.broker?.();
  const queueChecks = broker ? [{ name: "queue", problem: findApiFault(broker) }] : [];
  const checks = [...(await readiness.check()), ...queueChecks].map(({ name, problem }) => ({
    name,
    ok: problem === null,
    ...(problem && { cause: problem.message }),
  }));
  return { ok: checks.every(({ ok }) => ok), checks };
}

async function trimPeriodically({ store, facts }: Node, signal: AbortSignal): Promise<void> {
  while (await sleep(TRIM_EVERY_MS, signal)) {
    const isThere = async (id: string) => (await store.mailboxes.get(id)) !== undefined;
    const trimming = store.trim(new Date()).then(() => purgeRecords(store, isThere));
    await trimming.catch((error: unknown) => {
      const { code, message } = asProblem(error);
      facts.emit({ kind: "service.failed", what: "trimming the store", failure: { code, cause: message } });
    });
  }
}

async function main(): Promise<void> {
  try {
    const config = readConfig(process.env);
    await runApiNode(
      config,
      shutdownSignal((name) => console.error(`${name}: stopping; send it again to exit now`)),
      { warnings: listSettingWarnings(process.env) },
    );
  } catch (error) {
    const problem = asProblem(error);
    console.error(`Email Listener cannot run: ${problem.message}\n${problem.fix}`);
    process.exitCode = 1;
  }
}

if (import.meta.main) await main();
