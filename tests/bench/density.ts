/**
 * What idle mailboxes cost that a node listens to by IMAP with TLS: memory as their number grows, and CPU time with probes. The
 * server is lean and in a process of its own, so that the figures are the node's.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { type LeanServer, startLeanServer } from "./lean/server.ts";
import { cpuSeconds, openFilesLimit, settledMemory } from "./measured.ts";
import { type Row, ratio, type Setup, shown } from "./report.ts";
import { command, inParallel } from "./rivals.ts";
import { type Service, startService, TOKEN } from "../service.ts";

/** Memory in MB and the share of a core, in percent. A number without a goal is only measured. */
const GOALS: Record<number, { memory: number; cpu: number }> = {
  1_000: { memory: 200, cpu: 0.3 },
  16_000: { memory: 850, cpu: 2 },
};
const STEPS = [100, 1_000, 4_000];
const REGISTERED_AT_ONCE = 50;
const LISTENING_MS = 600_000;
/** Longer than the time between two probes. */
const MEASURED_MS = 90_000;

export type Lean = { service: Service; lean: LeanServer; pid: () => number };

/** Runs with a node that listens to the lean server, on the embedded default. Connections open fast, unless `env` says else. */
export async function withLean<T>(
  { runtime, env = {} }: { runtime: Setup["runtime"]; env?: Record<string, string> },
  work: (on: Lean) => Promise<T>,
): Promise<T> {
  const lean = await startLeanServer();
  const service = await startService(env, command(runtime));
  try {
    return await work({ service, lean, pid: () => service.pid });
  } finally {
    await service.end();
    await lean.end();
  }
}

/** The body that registers a user's mailbox. */
export function leanBody({ lean }: Pick<Lean, "lean">, id: string) {
  return { id, address: `${id}@example.com`, receive: lean.receive(id), deliver: { url: "http://127.0.0.1:9/" } };
}

/** Names of mailboxes, from one number up to another. */
export function leanIds(from: number, to: number): string[] {
  return Array.from({ length: to - from }, (_, n) => `box-${String(from + n).padStart(6, "0")}`);
}

/** Registers mailboxes one by one. */
export async function registerOneByOne(on: Pick<Lean, "lean" | "service">, ids: string[]): Promise<void> {
  await inParallel(ids, REGISTERED_AT_ONCE, async (id) => {
    const answer = await on.service.call("POST", "/api/v1/mailboxes", leanBody(on, id));
    if (answer.status !== 201) throw new Error(`Not registered: ${JSON.stringify(answer.body)}`);
  });
}

/** Imports these mailboxes in one request. `changes` are members of each. */
export async function importAll(on: Lean, ids: string[], changes: object = {}): Promise<void> {
  const body = ids.map((id) => JSON.stringify({ ...leanBody(on, id), ...changes })).join("\n");
  const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/x-ndjson" };
  const answer = await fetch(`${on.service.url}/api/v1/mailboxes:import`, { method: "POST", body, headers });
  const results = (await answer.text()).trim().split("\n");
  if (results.length !== ids.length || results.some((line) => line.includes('"refused"')))
    throw new Error(`Not imported: ${results.at(-1)}`);
}

/** Memory and CPU time at 100, 1,000, 4,000 and `--dense` mailboxes, in one node that gets more and more of them. */
export async function density({ sizes, runtime }: Setup): Promise<Row[]> {
  const needed = sizes.dense + 1_000;
  if ((await openFilesLimit()) < needed) throw new Error(`${sizes.dense} connections need \`ulimit -n ${needed}\``);
  // Tests compress time; this measures what an administrator gets.
  return withLean({ runtime, env: { BACKOFF_SCALE: "1" } }, async (on) => {
    const rows: Row[] = [];
    let registered = 0;
    for (const count of [...STEPS.filter((step) => step < sizes.dense), sizes.dense]) {
      await importAll(on, leanIds(registered, count));
      registered = count;
      await on.lean.untilIdling(count, LISTENING_MS);
      const goal = GOALS[count];
      rows.push(row(`MB with ${count} idle mailboxes`, (await settledMemory(on.pid())) / 1024, goal?.memory, "MB"));
      if (goal) rows.push(row(`% of a core with ${count} idle mailboxes`, await idlePercent(on), goal.cpu, "%"));
    }
    return rows;
  });
}

async function idlePercent({ pid }: Lean): Promise<number> {
  const before = await cpuSeconds(pid());
  await sleep(MEASURED_MS);
  return ((await cpuSeconds(pid())) - before) / (MEASURED_MS / 100_000);
}

/** One figure beside its goal, if there is one. */
export function row(what: string, measured: number, goal: number | undefined, unit: string): Row {
  if (goal === undefined) return { what, ours: shown(measured, unit), bare: "", compared: "" };
  return { what, ours: shown(measured, unit), bare: shown(goal, unit), compared: ratio(measured, goal) };
}
