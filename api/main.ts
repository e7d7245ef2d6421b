/** The API node's composition root: reads the settings, opens everything, runs the parts together, and closes in reverse order. */
import { hostname } from "node:os";
import { join } from "node:path";
import process from "node:process";
import manifest from "../package.json" with { type: "json" };
import { type Config, readConfig } from "../shared/config.ts";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import { asProblem } from "../shared/contract/problem.ts";
import type { Secret } from "../shared/contract/secret.ts";
import { egress } from "../shared/egress.ts";
import { admission } from "../shared/mail/admission.ts";
import type { MailConnection } from "../shared/mail/mail.ts";
import { oauthTokens } from "../shared/mail/oauth.ts";
import { openMailbox, preflights } from "../shared/mail/open.ts";
import { inlineQueue } from "../shared/queue/inline.ts";
import { type Part, runInside, untilStopped } from "../shared/run.ts";
import { loadKeys } from "../shared/store/keys.ts";
import { sqliteStore } from "../shared/store/sqlite.ts";
import type { Mailboxes, Store } from "../shared/store/store.ts";
import { vault } from "../shared/store/vault.ts";
import { type Emit, factStream } from "../shared/telemetry/events.ts";
import { history } from "../shared/telemetry/history.ts";
import { logTo } from "../shared/telemetry/log.ts";
import { metrics } from "../shared/telemetry/metrics.ts";
import { backoffs, slept } from "../shared/time.ts";
import { worker } from "../worker/perform.ts";
import { createApp } from "./app.ts";
import { counted } from "./counts.ts";
import { singleLeases } from "./lease/single.ts";
import { stateBoard } from "./listen/states.ts";
import { subscriptions } from "./listen/subscriptions.ts";
import type { Readiness } from "./deps.ts";
import { serve } from "./serve.ts";
import { mailVisits } from "./visits.ts";

const TRIM_EVERY_MS = 600_000;

/** Runs an API node until the signal aborts; resolves once everything is closed. Rejects when it cannot start or a part fails. */
export async function apiNode(config: Config, stop: AbortSignal): Promise<void> {
  const facts = factStream();
  const { emit } = facts;
  facts.subscribe(logTo(process.stdout, config));
  const keys = vault(await loadKeys(config));
  const path = config.DATA_DIR === ":memory:" ? config.DATA_DIR : join(config.DATA_DIR, "email-listener.db");
  const store = await sqliteStore({
    path,
    vault: keys,
    windowDays: config.WINDOW_DAYS,
    spoolBytes: config.SPOOL_BYTES,
  });
  const backoff = backoffs(config.BACKOFF_SCALE);
  const queue = inlineQueue({
    database: store.database,
    backoff,
    onFailed: ({ task, mailbox, attempt, problem, retryAt }) => {
      const failure = { code: problem.code, cause: problem.message };
      emit({
        kind: "task.failed",
        task: task?.kind ?? "unknown",
        mailbox,
        attempt,
        failure,
        retryAt: retryAt?.toISOString() ?? null,
      });
    },
  });

  const guard = egress(config.EGRESS_PRIVATE);
  const mailDeps = {
    egress: guard,
    tokens: oauthTokens({ egress: guard, onRotated: rotatedInto(store.mailboxes) }),
    timeouts: { command: config.COMMAND_TIMEOUT_SECONDS * 1000 },
    probeMs: config.PROBE_SECONDS * 1000,
    folderPollMs: config.FOLDER_POLL_SECONDS * 1000,
    gate: admission(config.CONNECTIONS_PER_HOST_PER_SECOND),
    emit,
  };
  const connect = (mailbox: Mailbox) => openMailbox[mailbox.receive.protocol](mailDeps, mailbox);
  const watched = new Map<string, MailConnection>();
  const node = config.NODE_NAME || hostname();
  const board = stateBoard({ mailboxes: store.mailboxes, emit, node });
  const work = worker({ config, store, tasks: queue, egress: guard, emit, backoff, connect, watched });
  const listeners = subscriptions({
    mailboxes: store.mailboxes,
    cursors: store.cursors,
    tasks: queue,
    leases: singleLeases(store.cursors),
    board,
    backoff,
    connect,
    watched,
    emit,
  });
  const connections = () => ({ ...listeners.connections(), readers: work.readers.count() });
  const measured = metrics(async () => ({ ...(await counted({ store, tasks: queue })), connections: connections() }));
  facts.subscribe(measured.listen);
  const app = createApp(
    {
      config,
      version: manifest.version,
      store,
      tasks: queue,
      facts,
      metrics: measured,
      subscriptions: { wake: listeners.wake, connections },
      mail: mailVisits({
        connect,
        preflight: (mailbox, signal) => preflights[mailbox.receive.protocol](mailDeps, mailbox, signal),
      }),
      ready: () => readiness(store),
    },
    stop,
  );
  const served = await serve(app.fetch, { host: config.HOST, port: config.PORT });
  emit({
    kind: "service.started",
    version: manifest.version,
    url: served.url + config.BASE_PATH,
    store: store.description,
    queue: "in process",
  });
  if (config.API_TOKENS.length === 0)
    emit({ kind: "service.warned", about: "No API_TOKENS: only programs on this machine may call (127.0.0.1)" });
  const parts: Part[] = [
    { name: "subscriptions", run: listeners.run },
    { name: "tasks", run: (signal) => queue.run(work.perform, { concurrency: config.WORKER_CONCURRENCY }, signal) },
    ...work.parts,
    { name: "trimming", run: (signal) => trimming(store, emit, signal) },
  ];
  // What the others say while they stop is still to be kept, so these two stop after them.
  const recorders: Part[] = [{ name: "states", run: board.run }, history({ facts, append: store.facts.append })];
  try {
    await runInside(recorders, parts, stop);
  } finally {
    await served.close();
    await work.close();
    await store.close();
  }
}

/** Keeps a refresh token that the provider exchanged for a new one; the old one may be void from now on. */
function rotatedInto(mailboxes: Mailboxes) {
  return async (id: string, refreshToken: Secret): Promise<void> => {
    const found = await mailboxes.get(id);
    const auth = found?.mailbox.receive.auth;
    if (!found || !auth || !("oauth2" in auth)) return;
    const { mailbox } = found;
    const renewed = { ...auth, oauth2: { ...auth.oauth2, refreshToken } };
    await mailboxes.amend({ ...mailbox, receive: { ...mailbox.receive, auth: renewed } });
  };
}

async function readiness(store: Store): Promise<Readiness> {
  const check = await store.ping().then(
    () => ({ name: "store", ok: true }),
    (error: unknown) => ({ name: "store", ok: false, cause: asProblem(error).message }),
  );
  return { ok: check.ok, checks: [check] };
}

async function trimming(store: Store, emit: Emit, signal: AbortSignal): Promise<void> {
  while (await slept(TRIM_EVERY_MS, signal)) {
    await store.trim(new Date()).catch((error: unknown) => {
      const { code, message } = asProblem(error);
      emit({ kind: "service.failed", what: "trimming the store", failure: { code, cause: message } });
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
