/** Checks of this installation itself: its settings, its keys, its nodes, and the room that it has. */
import { stat, statfs } from "node:fs/promises";
import { sqlitePath } from "../../shared/backends.ts";
import { Problem } from "../../shared/contract/problem.ts";
import { isLoopback } from "../http/client.ts";
import { type Check, type CheckDeps, countOf, type Finding, notRun } from "./check.ts";

export const settingsCheck: Check = {
  title: "Settings in force",
  seconds: 5,
  run({ deps: { config, probes, version } }) {
    const warnings = [...probes.settingWarnings, ...listDoubts(config)];
    // As JSON, where a secret is a placeholder.
    const settings: unknown = JSON.parse(JSON.stringify(config));
    const found = warnings.length === 0 ? "no warnings" : countOf(warnings.length, "warning");
    return { status: "ok", detail: `version ${version}, ${found}`, warnings, data: { version, settings } };
  },
};

function listDoubts(config: CheckDeps["config"]): string[] {
  const { CRM_ACCESS, API_TOKENS, DATA_DIR, REDIS_URL, BACKOFF_SCALE, NODE_ENV, HOST, PUBLIC_URL } = config;
  const plain = PUBLIC_URL.find((url) => url.startsWith("http://") && !isLoopback(new URL(url).hostname));
  const doubts: [boolean, string][] = [
    [
      CRM_ACCESS.some(({ kind }) => kind === "open"),
      "CRM_ACCESS is open: everybody who reaches the port may act as a CRM",
    ],
    [API_TOKENS.length === 0, "API_TOKENS is empty: only programs on this machine may call"],
    [DATA_DIR === ":memory:" && !REDIS_URL, "DATA_DIR is :memory:, so nothing is kept after a stop"],
    [BACKOFF_SCALE < 1, "BACKOFF_SCALE is below 1: providers may lock accounts that are tried so often"],
    [NODE_ENV !== "production" && !isLoopback(HOST), "NODE_ENV is not production, so short tokens are allowed"],
    [plain !== undefined, `${plain ?? ""} in PUBLIC_URL is not https: tokens and mail travel in clear`],
  ];
  return doubts.flatMap(([holds, text]) => (holds ? [text] : []));
}

export const keysCheck: Check = {
  title: "Encryption keys",
  seconds: 10,
  async run({ deps: { store, nodes, probes, config } }) {
    await store.checkKeys();
    const [first] = probes.keyring;
    const others = nodes.known().filter(({ keyring }) => keyring && keyring[0]?.mark !== first?.mark);
    const differing = others.map(
      ({ name }) => `Node ${name} encrypts with another key. Give all nodes the same ENCRYPTION_KEYS`,
    );
    const inFile = config.ENCRYPTION_KEYS.length === 0 && config.DATA_DIR !== ":memory:";
    const fileNote = "The key is in a file in DATA_DIR. Keep a copy, and set ENCRYPTION_KEYS in production";
    const keys = probes.keyring.map(({ id }) => id);
    const detail = `encrypts with "${first?.id ?? ""}", has ${countOf(keys.length, "key")}`;
    return { status: "ok", detail, warnings: [...differing, ...(inFile ? [fileNote] : [])], data: { keys } };
  },
};

export const nodesCheck: Check = {
  title: "Nodes",
  seconds: 10,
  async run({ deps: { nodes, subscriptions, probes, version, config } }) {
    const live = await nodes.now();
    const items = live.map(({ name, role, mailboxes, capacity, version: its, startedAt }) => ({
      name,
      role,
      version: its,
      startedAt,
      mailboxes,
      capacity,
    }));
    const data = { items, heartbeatSeconds: config.SESSION_TTL_SECONDS };
    if (!live.some(({ name }) => name === probes.name)) {
      const cause = `This node (${probes.name}) has no session: its heartbeat did not reach Redis in time`;
      return { status: "failed", cause, fix: "Check the network to Redis and the load of this machine.", data };
    }
    const unserved = subscriptions.unserved();
    if (unserved > 0) {
      const cause = `${countOf(unserved, "mailbox has", "mailboxes have")} no node, because all nodes are full`;
      return { status: "failed", cause, fix: "Start another API node, or raise MAILBOXES_PER_NODE.", data };
    }
    const unready = live.find(({ role, capacity }) => role === "api" && capacity === 0);
    if (unready) {
      const cause = `Node ${unready.name} is not ready, so it takes no mailboxes and no tasks`;
      return { status: "failed", cause, fix: "Its GET /readyz says why.", data };
    }
    const [api, workers] = (["api", "worker"] as const).map((role) => live.filter((one) => one.role === role).length);
    const old = items.filter((one) => one.version !== version);
    const mixed = old.map((one) => `Node ${one.name} runs version ${one.version}, this one ${version}`);
    const noWorker =
      config.RABBITMQ_URL.length > 0 && workers === 0 ? ["No worker lives, so API nodes do its work"] : [];
    const detail = `${countOf(api ?? 0, "API node")} and ${countOf(workers ?? 0, "worker")} live`;
    return { status: "ok", detail, warnings: [...mixed, ...noWorker], data };
  },
};

export const sqliteCheck: Check = {
  title: "SQLite",
  seconds: 10,
  async run({ deps: { config, store } }) {
    if (config.REDIS_URL) return notRun("REDIS_URL is set, so Redis is the store");
    await store.ping();
    const path = sqlitePath(config);
    if (path === ":memory:") return { status: "ok", detail: "in memory: nothing is kept after a stop" };
    const { size } = await stat(path).catch((cause: unknown) => {
      const fix = "Stop the service, restore the file from a backup, and start it again.";
      throw new Problem("store", `The file of the store is gone: ${path}`, { fix, cause });
    });
    return { status: "ok", detail: `${path}, ${sizeText(size)}`, data: { path, bytes: size } };
  },
};

/** With less free room than this SQLite may fail at any moment. */
const LEAST_FREE_BYTES = 256 * 1024 * 1024;
const [NEARLY_FULL, FILLING] = [0.9, 0.5];

export const diskCheck: Check = {
  title: "Room for mail",
  seconds: 10,
  async run({ deps: { config, store } }) {
    const { spoolBytes } = await store.deliveries.getCounts();
    const used = spoolBytes / config.SPOOL_BYTES;
    const spool = `${sizeText(spoolBytes)} of ${sizeText(config.SPOOL_BYTES)} of the spool are used`;
    const onDisk = !config.REDIS_URL && config.DATA_DIR !== ":memory:";
    const freeBytes = onDisk ? await freeBytesOf(config.DATA_DIR) : null;
    const data = { spoolBytes, spoolLimit: config.SPOOL_BYTES, freeBytes };
    const free = freeBytes === null ? "" : `, ${sizeText(freeBytes)} are free in ${config.DATA_DIR}`;
    if (used >= NEARLY_FULL)
      return { status: "failed", cause: `The spool is nearly full: ${spool}`, fix: SPOOL_FIX, data };
    if (freeBytes !== null && freeBytes < LEAST_FREE_BYTES) {
      const cause = `The disk of ${config.DATA_DIR} is nearly full: ${sizeText(freeBytes)} are free`;
      return { status: "failed", cause, fix: "Free some room, or move DATA_DIR to a larger disk.", data };
    }
    const left = config.SPOOL_BYTES - spoolBytes;
    const tooSmall = `The spool may grow by ${sizeText(left)}, which is more than is free in ${config.DATA_DIR}`;
    const warnings = [
      ...(used >= FILLING ? [`The spool fills: ${spool}`] : []),
      ...(freeBytes !== null && freeBytes < left ? [tooSmall] : []),
    ];
    return { status: "ok", detail: spool + free, warnings, data };
  },
};

const SPOOL_FIX = "Fix the endpoints that refuse deliveries (GET /api/v1/parked), or raise SPOOL_BYTES.";

async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return Number(bavail) * Number(bsize);
}

function sizeText(bytes: number): string {
  const [unit, size] = bytes >= 1e9 ? ["GB", 1e9] : bytes >= 1e6 ? ["MB", 1e6] : ["KB", 1e3];
  return `${(bytes / Number(size)).toFixed(1)} ${unit}`;
}

export const parkedCheck: Check = {
  title: "Parked mail",
  seconds: 15,
  async run({ deps: { store, tasks } }): Promise<Finding> {
    const { parked, retrying } = await store.deliveries.getCounts();
    const { parked: tasksParked = 0 } = await tasks.depth();
    const data = { deliveries: parked, tasks: tasksParked, retrying };
    const waiting = retrying > 0 ? `; ${countOf(retrying, "delivery is", "deliveries are")} tried again` : "";
    if (parked + tasksParked === 0) return { status: "ok", detail: `nothing is parked${waiting}`, data };
    const what = `${countOf(parked, "delivery", "deliveries")} and ${countOf(tasksParked, "task")}`;
    const fix = "GET /api/v1/parked (bun run cli parked ls) shows the reasons. Fix them, then replay or drop them.";
    return { status: "failed", cause: `${what} were given up and wait for a person${waiting}`, fix, data };
  },
};
