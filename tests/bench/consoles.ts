/**
 * What the console costs: its largest pages over many mailboxes, and a burst of deliveries while many of them are open. A page
 * renews itself every five seconds. The goal is for ten consoles. A hundred are open, so that what they cost can be told from what
 * other programs on the machine do to a burst.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { gzipSync } from "node:zlib";
import { TICK_MS, type StateReport } from "../../shared/store/measured/state-entries.ts";
import { initialState, type Store } from "../../shared/store/store.ts";
import { periodOf, PERIOD_MS, latencyName } from "../../shared/telemetry/tallies.ts";
import { type ApiNode, startApi } from "../api-node.ts";
import { deliveryOf, mailboxOf } from "../promises/samples.ts";
import { startService, TOKEN } from "../service.ts";
import { cpuSeconds, quantile } from "./measured.ts";
import { type Bench, type Result, type Row, shown } from "./report.ts";
import { asRival, byImap, command } from "./rivals.ts";
import { burst, warmedUp } from "./throughput.ts";

const CONSOLES = 100;
const RENEWED_MS = 5_000;
const PAIRS = 8;
/** Times the usual burst, so that each page is renewed several times in it. */
const BURSTS = 5;
const QUIET_MS = 30_000;
const SAMPLES = 7;
const PAGES = [
  { size: 5_000, path: "/", what: "first page", goalMs: 100 },
  { size: 50_000, path: "/", what: "first page", goalMs: undefined },
  { size: 50_000, path: "/mailboxes", what: "page of 50", goalMs: 150 },
  { size: 50_000, path: "/mailboxes?after=m25000", what: "page of 50 in the middle", goalMs: 150 },
  { size: 50_000, path: "/mailboxes?state=throttled", what: "page of 50 by state", goalMs: 150 },
  { size: 50_000, path: "/mailboxes/m7", what: "a mailbox", goalMs: 150 },
] as const;
const GOAL_BYTES = 60 * 1024;
const GOAL_CHANGE = 0.02;
const HOUR = 3_600_000;

/** The time and the size of pages, then what open consoles do to a burst. The pages are measured in this process. */
export async function consoles(bench: Bench): Promise<Row[]> {
  return [...(await pages()), ...(await besideDeliveries(bench))];
}

async function pages(): Promise<Row[]> {
  const rows: Row[] = [];
  for (const size of new Set(PAGES.map((page) => page.size))) {
    const node = await startApi();
    try {
      await fill(node.store, size);
      for (const page of PAGES.filter((one) => one.size === size)) rows.push(...(await measurePage(node, page)));
    } finally {
      await node.close();
    }
  }
  return rows;
}

async function measurePage({ url }: ApiNode, { size, path, what, goalMs }: (typeof PAGES)[number]): Promise<Row[]> {
  const times: number[] = [];
  let bytes = 0;
  for (let n = 0; n < SAMPLES; n++) {
    const began = performance.now();
    const answer = await fetch(url + path, { headers: { "accept-encoding": "gzip" } });
    const text = await answer.text();
    times.push(performance.now() - began);
    if (answer.status !== 200) throw new Error(`${path} answered ${answer.status}`);
    bytes = gzipSync(text).length;
    // A view that is computed for all who look is computed anew after at most twelve times of what it took.
    await sleep(Math.max(2_500, 12 * (times.at(-1) ?? 0)));
  }
  const name = `${what}, ${size.toLocaleString("en")} mailboxes`;
  // The first one pays for compiling.
  const ms = median(times.slice(1));
  return [
    { what: `${name}, ms`, ours: shown(ms), bare: goalMs === undefined ? "none" : `<= ${goalMs}`, compared: "" },
    { what: `${name}, KB compressed`, ours: shown(bytes / 1024), bare: `<= ${GOAL_BYTES / 1024}`, compared: "" },
  ];
}

/** Mailboxes as in a service that runs well: of 100, 94 are listened to, and each changed three times in the last day. */
async function fill({ mailboxes, measures, deliveries }: Store, size: number): Promise<void> {
  const now = Date.now();
  const ids = Array.from({ length: size }, (_, n) => `m${n}`);
  for (const id of ids) await mailboxes.put(mailboxOf(id));
  const statuses = ["throttled", "throttled", "reconnecting", "reconnecting", "needs_attention", "syncing"] as const;
  const at = new Date(now).toISOString();
  const base = { ...initialState({ paused: false }), node: "here", lastVerifiedAt: at, lastArrivalAt: at };
  const states = ids.map((id, n) => ({
    id,
    revision: 1,
    state: { ...base, status: statuses[n % 100] ?? ("listening" as const) },
  }));
  for (let from = 0; from < size; from += 1_000) await mailboxes.saveStates(states.slice(from, from + 1_000));
  const run = { id: "run--1", node: "here", from: now - 30 * HOUR, until: now };
  const report = (mailbox: string, ago: number): StateReport => ({
    mailbox,
    tick: Math.floor(now / TICK_MS) - ago,
    minute: ago % 15,
    worst: ago % 2 === 0 ? "throttled" : "reconnecting",
    last: "listening",
  });
  for (let from = 0; from < size; from += 500) {
    const batch = ids.slice(from, from + 500);
    const reports = batch.flatMap((id, n) =>
      [95 - (n % 20), 60 - (n % 30), 20 - (n % 19)].map((ago) => report(id, ago)),
    );
    await measures.record(run, reports);
  }
  for (let n = 0; n < 2_000; n++) {
    const state = n % 20 === 0 ? "parked" : n % 50 === 1 ? "retrying" : "delivered";
    await deliveries.save(deliveryOf(`d${n}`, { mailbox: `m${n % size}`, state, reason: "answered 500" }));
  }
  for (let ago = 0; ago < 24 * 12; ago++) {
    const add = Object.fromEntries(Array.from({ length: 40 }, (_, n) => [latencyName(10 * 1.2 ** n), n + 1]));
    const numbers = { add: { delivered: 500, ...add }, set: { waiting: ago, parked: 100 } };
    await measures.count({ at: periodOf(now) - ago * PERIOD_MS, ...numbers, latencies: [] });
  }
}

/** Bursts in pairs, one of them beside open consoles. Which comes first alternates, because the machine is not quiet. */
async function besideDeliveries(bench: Bench): Promise<Row[]> {
  const service = await startService({}, command(bench.runtime));
  const rival = await asRival("service", [service], byImap(bench.mail));
  try {
    const users = bench.users(bench.sizes.mailboxes);
    await rival.listen(users);
    await warmedUp(bench, rival, users.slice(-1));
    const cookie = await logIn(service.url);
    const long = { ...bench, sizes: { ...bench.sizes, burst: BURSTS * bench.sizes.burst } };
    const beside = () => burst(long, rival, users, (work) => withConsoles(service.url, cookie, work));
    const alone = () => burst(long, rival, users);
    const pairs: { alone: Result; beside: Result }[] = [];
    for (let n = 0; n < PAIRS; n++) {
      if (n % 2 === 0) pairs.push({ alone: await alone(), beside: await beside() });
      else {
        const first = await beside();
        pairs.push({ alone: await alone(), beside: first });
      }
    }
    return [...changes(pairs), await ownCost(rival.pids, service.url, cookie)];
  } finally {
    await rival.end();
  }
}

/**
 * The CPU that open consoles take of a service that does nothing else, after all the deliveries before. Other programs on the
 * machine change this less than they change a burst, and the deliveries cannot lose more than that.
 */
async function ownCost(pids: number[], url: string, cookie: string): Promise<Row> {
  const share = async (work: (ms: number) => Promise<unknown>) => {
    const before = await cpuSeconds(...pids);
    await work(QUIET_MS);
    return ((await cpuSeconds(...pids)) - before) / (QUIET_MS / 1000);
  };
  await sleep(RENEWED_MS);
  const alone = await share((ms) => sleep(ms));
  const beside = await share((ms) => withConsoles(url, cookie, () => sleep(ms)));
  const what = `CPU of ${CONSOLES} consoles, % of one core`;
  const bare = `<= ${100 * GOAL_CHANGE}`;
  return { what, ours: shown(100 * (beside - alone), "%"), bare, compared: `without ${shown(100 * alone, "%")}` };
}

function changes(pairs: { alone: Result; beside: Result }[]): Row[] {
  const row = (what: string, of: (result: Result) => number, unit: string): Row => {
    const ratios = pairs.map(({ alone, beside }) => of(beside) / of(alone));
    return {
      what: `${what} beside ${CONSOLES} consoles, median of ${pairs.length} pairs`,
      ours: shown(median(pairs.map(({ beside }) => of(beside))), unit),
      bare: `without ${shown(median(pairs.map(({ alone }) => of(alone))), unit)}`,
      compared: `x ${median(ratios).toFixed(3)} (${ratios
        .map((one) => one.toFixed(2))
        .toSorted()
        .join(" ")}), goal within ${GOAL_CHANGE}`,
    };
  };
  return [
    row("deliveries per minute", ({ perSecond }) => 60 * perSecond, ""),
    row("CPU per 1,000 deliveries", ({ cpu }) => cpu, "s"),
  ];
}

const median = (values: number[]) => quantile(values, 0.5);

async function logIn(url: string): Promise<string> {
  const answer = await fetch(`${url}/login`, {
    method: "POST",
    redirect: "manual",
    body: new URLSearchParams({ token: TOKEN }),
  });
  const cookie = answer.headers.get("set-cookie")?.split(";")[0];
  if (cookie === undefined) throw new Error(`No login: ${answer.status}`);
  return cookie;
}

/** Runs the work while pages renew themselves, as the script of the console does it: half of them the first view, half of them a list or a mailbox. */
async function withConsoles<T>(url: string, cookie: string, work: () => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const paths = ["/", "/mailboxes", "/", "/deliveries", "/", "/endpoints"];
  const renewing = Array.from({ length: CONSOLES }, async (_, n) => {
    const path = paths[n % paths.length] ?? "/";
    // They do not all renew at the same moment.
    for (let wait = (n * RENEWED_MS) / CONSOLES; !stop.signal.aborted; wait = RENEWED_MS) {
      await sleep(wait, undefined, { signal: stop.signal }).catch(() => undefined);
      if (stop.signal.aborted) return;
      const answer = await fetch(url + path, { headers: { cookie, "accept-encoding": "gzip", "x-renewal": "1" } });
      await answer.text();
      if (answer.status !== 200) throw new Error(`${path} answered ${answer.status}`);
    }
  });
  try {
    return await work();
  } finally {
    stop.abort();
    await Promise.all(renewing);
  }
}
