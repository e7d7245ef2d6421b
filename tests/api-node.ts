/** The HTTP face over a real socket, for tests: real store, real queue, real mail server; only the subscriptions do nothing. */
import assert from "node:assert/strict";
import { createApp } from "../api/app.ts";
import { collectStoreCounts } from "../api/counts.ts";
import type { Discover, Readiness } from "../api/deps.ts";
import { serve } from "../api/http/server.ts";
import { hintRelay } from "../api/hint-relay.ts";
import { mailVisits } from "../api/mail-visits.ts";
import { readConfig } from "../shared/config.ts";
import type { Delivery } from "../shared/contract/delivery.ts";
import type { MessageRef } from "../shared/contract/message.ts";
import type { Task } from "../shared/contract/task.ts";
import { egress } from "../shared/egress.ts";
import { discoverMailServers } from "../shared/mail/discovery/discover.ts";
import { nameServers } from "../shared/mail/discovery/records.ts";
import { graphPush } from "../shared/mail/graph/notifications/push.ts";
import { loginGate } from "../shared/mail/net/login-gate.ts";
import { oauthTokens } from "../shared/mail/oauth/tokens.ts";
import { openMailbox, runPreflight } from "../shared/mail/open.ts";
import { storedRefreshTokens } from "../shared/node.ts";
import type { TaskQueue } from "../shared/queue/queue.ts";
import { sqliteQueue } from "../shared/queue/sqlite/queue.ts";
import { generateEncryptionKey } from "../shared/store/encryption-keys.ts";
import { sqliteStore } from "../shared/store/sqlite/store.ts";
import { serveByDomain } from "../shared/served-mailboxes.ts";
import type { Store } from "../shared/store/store.ts";
import { vault } from "../shared/store/vault.ts";
import { type Fact, type Facts, factStream } from "../shared/telemetry/events.ts";
import { metrics } from "../shared/telemetry/metrics.ts";
import { backoffs } from "../shared/time.ts";
import { alarmPost } from "../worker/alarms.ts";
import { testPoster } from "../worker/test-post.ts";
import { crmCalls } from "../worker/crm.ts";
import { httpPost } from "../worker/endpoint/http.ts";
import { eventually } from "./servers/waiting.ts";

export type Reply = { status: number; headers: Headers; text: string; body: any };

export type ApiNode = {
  url: string;
  store: Store;
  facts: Facts;
  /** Every fact so far. */
  told: Fact[];
  /** The ids that subscriptions were woken for. */
  woken: (string | undefined)[];
  /** What `readyz` is to find. */
  readiness: Readiness;
  /** Sends a request; a body that is no string goes as JSON. Fails the test when the answer is one the reference does not name. */
  call(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Reply>;
  queue: TaskQueue;
  /** Takes all tasks out of the queue. */
  tasks(count: number): Promise<Task[]>;
  /** Aborts the signal that ends streams, without closing the server. */
  stop(): void;
  close(): Promise<void>;
};

/** The operations of the API by path and method, with the answers that each may give. */
type Reference = { paths: Record<string, Record<string, { responses: Record<string, unknown> }>> };

/** It is the same at every node. To make it takes more than all else of a node's start. */
let madeReference: Reference | undefined;

/** Starts a node on a free port with a store in memory. */
export async function startApi(
  env: Record<string, string> = {},
  { name = "here", version = "1.2.3" }: { name?: string; version?: string } = {},
): Promise<ApiNode> {
  const config = readConfig({ PORT: "0", NODE_ENV: "test", ...env });
  const keys = vault([{ id: "test", key: generateEncryptionKey() }]);
  const store = await sqliteStore({ path: ":memory:", vault: keys, windowDays: 7, spoolBytes: 10_000_000 });
  const queue = sqliteQueue({ database: store.database, backoff: backoffs(1), onFailed: () => {} });
  const facts = factStream();
  const told: Fact[] = [];
  facts.subscribe((fact) => told.push(fact));
  const woken: (string | undefined)[] = [];
  const subscriptions = {
    wake: (id?: string) => void woken.push(id),
    connections: () => ({ open: 7 }),
    unserved: () => 0,
  };
  const measured = metrics({
    ping: store.ping,
    store: () => collectStoreCounts(store),
    tasks: () => queue.depth(),
    node: () => ({ connections: subscriptions.connections() }),
  });
  facts.subscribe(measured.onFact);
  const logins = loginGate({ ...store, backoff: backoffs(1) });
  const refreshTokens = storedRefreshTokens(store.mailboxes);
  const findApplication = (id: string) => store.applications.get(id);
  const mailDeps = {
    egress: egress("allow"),
    tokens: oauthTokens({ egress: egress("allow"), locks: store.locks, refreshTokens, findApplication }),
    findApplication,
    logins,
    timeouts: { command: 5000 },
    probeMs: 60_000,
    folderPollMs: 30_000,
  };
  const mail = mailVisits({
    serve: serveByDomain(store.applications),
    connect: (wanted) => openMailbox[wanted.receive.protocol](mailDeps, wanted),
    preflight: (wanted, signal) => runPreflight(mailDeps, wanted, signal),
  });
  const stop = new AbortController();
  const node = { readiness: { ok: true, checks: [{ name: "store", ok: true }] } as Readiness };
  const post = httpPost({ egress: egress("allow"), timeoutMs: 5000 });
  const crm = crmCalls({ post });
  const postAlarm = alarmPost({ post });
  const postTest = testPoster({ post, showWords: true });
  const watching = { facts, metrics: measured, subscriptions };
  const records = nameServers(config.DNS_SERVERS);
  const discover: Discover = (address, signal) => discoverMailServers({ ...mailDeps, records }, address, signal);
  const outgoing = { mail, discover, crm, postAlarm, postTest, logins, outbound: mailDeps };
  const deps = {
    config,
    demoEndpoint: undefined,
    version,
    store,
    tasks: queue,
    parked: queue,
    ...watching,
    ...outgoing,
  };
  const self = { role: "api", name, version, startedAt: new Date().toISOString() } as const;
  const known = () => [{ ...self, mailboxes: 7, capacity: 100 }];
  const nodes = { known, now: async () => known() };
  const probes = {
    name: self.name,
    settingWarnings: [],
    egress: egress("allow"),
    ownEgress: egress("allow"),
    redis: undefined,
    inspectBroker: undefined,
    keyring: keys.keyring,
    marks: keys.marks,
  };
  const push = graphPush({ publicUrls: [], basePath: "", marks: keys.marks, scale: 1 });
  const answering = { ready: async () => node.readiness, sealing: keys, graphHints: hintRelay(push, undefined) };
  const app = createApp({ ...deps, probes, nodes, ...answering, wakeBulk: () => undefined }, stop.signal);
  const served = await serve(app.fetch, { host: "127.0.0.1", port: 0 });
  const url = served.url + config.BASE_PATH;
  const reference: Reference = (madeReference ??= JSON.parse(await (await fetch(`${url}/openapi.json`)).text()));
  return Object.assign(node, {
    url,
    store,
    facts,
    told,
    woken,
    async call(method: string, path: string, body?: unknown, headers: Record<string, string> = {}) {
      const sent = body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) };
      const type = body === undefined ? {} : { "content-type": "application/json" };
      const response = await fetch(url + path, { method, headers: { ...type, ...headers }, ...sent });
      const text = await response.text();
      const json = /[/+]json/.test(response.headers.get("content-type") ?? "") && text !== "";
      named(reference, method, path, response.status);
      return { status: response.status, headers: response.headers, text, body: json ? JSON.parse(text) : undefined };
    },
    queue,
    tasks: (count: number) => taken(queue, count),
    stop: () => stop.abort(),
    async close() {
      stop.abort();
      await served.close();
      await store.close();
    },
  });
}

function named(reference: Reference, method: string, path: string, status: number): void {
  const bare = path.split("?", 1)[0] ?? "";
  const template = Object.keys(reference.paths)
    .toSorted((a) => (a.includes("{") ? 1 : -1))
    .find((known) => new RegExp(`^${known.replace(/\{\w+\}/g, "[^/]+")}$`).test(bare));
  const operation = template && reference.paths[template]?.[method === "HEAD" ? "get" : method.toLowerCase()];
  if (operation)
    assert.ok(operation.responses[status], `${method} ${template} answered ${status}, which is not documented`);
}

async function taken(queue: TaskQueue, count: number): Promise<Task[]> {
  const tasks: Task[] = [];
  const enough = new AbortController();
  const run = queue.run(
    async (task) => {
      tasks.push(task);
      return { kind: "done" };
    },
    { concurrency: 4 },
    enough.signal,
  );
  const empty = async () => (await queue.depth()).ready + (await queue.depth()).running === 0;
  await eventually(async () => tasks.length >= count && (await empty()), `${count} tasks`).finally(() =>
    enough.abort(),
  );
  await run;
  return tasks;
}

/** A delivery as a worker records it. */
export function delivery(id: string, changes: Partial<Delivery> = {}): Delivery {
  const at = "2026-11-22T05:00:00.000Z";
  return {
    id,
    mailbox: "m1",
    endpoint: "https://crm.example.com/mail",
    ref: ref(1),
    flags: [],
    state: "parked",
    attempts: [{ at, ms: 12, status: 500, problem: "answered 500" }],
    attemptCount: 1,
    createdAt: at,
    updatedAt: at,
    giveUpAt: "2026-11-25T05:00:00.000Z",
    nextAttemptAt: null,
    reason: "answered 500",
    spooled: true,
    ...changes,
  };
}

export function ref(uid: number): MessageRef {
  return { folder: "INBOX", epoch: "1700000000", uid, size: 100, receivedAt: "2026-11-22T05:00:00.000Z" };
}
