/** The API node's composition root: reads the settings, opens everything, runs the parts together, and closes in reverse order. */
import process from "node:process";
import manifest from "../package.json" with { type: "json" };
import { type Config, readConfig } from "../shared/config.ts";
import { asProblem } from "../shared/contract/problem.ts";
import type { MailConnection } from "../shared/mail/mail.ts";
import { tryOut } from "../shared/mail/open.ts";
import { type Node, openNode } from "../shared/node.ts";
import type { TaskSender } from "../shared/queue/queue.ts";
import { type Part, runInside, untilStopped } from "../shared/run.ts";
import { history } from "../shared/telemetry/history.ts";
import { metrics } from "../shared/telemetry/metrics.ts";
import { slept } from "../shared/time.ts";
import { worker } from "../worker/tasks/dispatch.ts";
import { createApp } from "./app.ts";
import { counted } from "./counts.ts";
import type { Readiness } from "./deps.ts";
import { openOwnership } from "./lease/acquire.ts";
import { stateBoard } from "./listen/states.ts";
import { subscriptions } from "./listen/subscriptions.ts";
import { tellers } from "./routes/creatio/tell.ts";
import { serve } from "./http/server.ts";
import { mailVisits } from "./mail-visits.ts";

const TRIM_EVERY_MS = 600_000;
/** Tasks an API node does at once while workers, which should do them, are missing. */
const STAND_IN_CONCURRENCY = 8;

/** Runs an API node until the signal aborts; resolves once everything is closed. Rejects when it cannot start or a part fails. */
export async function apiNode(config: Config, stop: AbortSignal): Promise<void> {
  const node = await openNode(config);
  try {
    await runApi(node, stop);
  } finally {
    await node.close();
  }
}

async function runApi(node: Node, stop: AbortSignal): Promise<void> {
  const { config, store, queue, facts, backoff, connect } = node;
  const { emit } = facts;
  const watched = new Map<string, MailConnection>();
  // Doing tasks sends tasks, and while the broker is away sending does them: the two know each other through this.
  const tasks: TaskSender = { send: (task, options) => sender.send(task, options) };
  const work = worker({ ...node, tasks, emit, watched, overdueMs: queue.overdueMs });
  const sender = queue.sender(work.perform, { concurrency: STAND_IN_CONCURRENCY }, stop);

  const board = stateBoard({ mailboxes: store.mailboxes, emit, node: node.name });
  const ownership = await openOwnership(node, () => listeners.connections().subscriptions);
  const listening = { mailboxes: store.mailboxes, cursors: store.cursors, tasks, ownership, board, backoff };
  const listeners = subscriptions({ ...listening, connect, watched, emit });
  const connections = () => ({ ...listeners.connections(), readers: work.readers.count() });
  const counts = { store, tasks: { ...tasks, depth: queue.depth } };
  const { unserved } = listeners;
  const measured = metrics(async () => ({
    ...(await counted(counts)),
    unserved: unserved(),
    connections: connections(),
  }));
  facts.subscribe(measured.listen);

  const wake = () => {
    listeners.wake();
    ownership.announce();
  };
  const mail = mailVisits({
    connect,
    preflight: (mailbox, signal) => tryOut(node.mail, mailbox, signal),
  });
  const ready = () => readiness(node);
  const { crm } = work;
  const given = {
    ...counts,
    parked: queue.parked,
    config,
    version: manifest.version,
    facts,
    metrics: measured,
    mail,
    crm,
    ready,
  };
  const app = createApp({ ...given, subscriptions: { wake, connections, unserved }, nodes: ownership.nodes }, stop);
  const served = await serve(app.fetch, { host: config.HOST, port: config.PORT });
  started(node, served.url + config.BASE_PATH);

  const standIn = node.redis !== undefined;
  const concurrency = standIn ? STAND_IN_CONCURRENCY : config.WORKER_CONCURRENCY;
  const parts: Part[] = [
    { name: "subscriptions", run: listeners.run },
    { name: "tasks", run: (signal) => queue.run(work.perform, { concurrency, standIn }, signal) },
    ...work.parts,
    tellers({ store, tasks, facts }),
    { name: "trimming", run: (signal) => trimming(node, signal) },
  ];
  // What the others say while they stop is still to be kept, and what they own is theirs until then.
  const outer: Part[] = [
    { name: "states", run: board.run },
    history({ facts, append: store.facts.append }),
    ...ownership.parts,
  ];
  try {
    await runInside(outer, parts, stop);
  } finally {
    await served.close();
    await work.close();
  }
}

function started({ config, store, queue, facts: { emit } }: Node, url: string): void {
  const on = { store: store.description, queue: queue.description };
  emit({ kind: "service.started", version: manifest.version, url, ...on });
  if (config.LISTENERS_ACCESS.some(({ kind }) => kind === "open"))
    emit({ kind: "service.warned", about: "LISTENERS_ACCESS is open: whoever reaches this port may act as a CRM" });
  if (config.API_TOKENS.length > 0) return;
  emit({ kind: "service.warned", about: "No API_TOKENS: only programs on this machine may call (127.0.0.1)" });
}

async function readiness({ store }: Node): Promise<Readiness> {
  const check = await store.ping().then(
    () => ({ name: "store", ok: true }),
    (error: unknown) => ({ name: "store", ok: false, cause: asProblem(error).message }),
  );
  return { ok: check.ok, checks: [check] };
}

async function trimming({ store, facts }: Node, signal: AbortSignal): Promise<void> {
  while (await slept(TRIM_EVERY_MS, signal)) {
    await store.trim(new Date()).catch((error: unknown) => {
      const { code, message } = asProblem(error);
      facts.emit({ kind: "service.failed", what: "trimming the store", failure: { code, cause: message } });
    });
  }
}

async function main(): Promise<void> {
  try {
    const config = readConfig(process.env);
    await apiNode(
      config,
      untilStopped((name) => console.error(`${name}: stopping, once more to exit now`)),
    );
  } catch (error) {
    const problem = asProblem(error);
    console.error(`Email Listener cannot run: ${problem.message}\n${problem.fix}`);
    process.exitCode = 1;
  }
}

if (import.meta.main) await main();
