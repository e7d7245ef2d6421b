/**
 * The bench: the service beside a bare imapflow loop on the same Dovecot, its Exchange mailboxes beside its IMAP ones, and many nodes
 * beside one, each in one run. Prints tables; with --write it also puts them into docs/performance.md. Figures of two machines cannot be
 * compared, the ratios can.
 *
 *   bun run bench [latency] [throughput] [memory] [send] [exchange] [graph] [cluster] [idle] [failover] [isolation] [hostile] [parse]
 *                 [big] [worst] [outage] [notifications] [consoles] [density] [long] [registration] [recovery]
 *                 [--mailboxes 200] [--mails 200] [--burst 2000] [--bytes 10000] [--idle 1000] [--held 500] [--dense 16000] [--long 20000]
 *                 [--runtime bun|node] [--tls] [--write]
 */
import { readFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { startDovecot } from "../servers/dovecot.ts";
import { bundleService } from "../tools/bundle.ts";
import { big } from "./big.ts";
import { consoles } from "./consoles.ts";
import { cluster } from "./cluster.ts";
import { density } from "./density.ts";
import { failover, idle } from "./held.ts";
import { exchange } from "./exchange.ts";
import { graph } from "./graph.ts";
import { hostile } from "./hostile.ts";
import { isolation } from "./isolation.ts";
import { latency } from "./latency.ts";
import { long } from "./long.ts";
import { memory } from "./memory.ts";
import { notifications } from "./notifications.ts";
import { describeRun, writeSection } from "./page.ts";
import { outage } from "./outage.ts";
import { parse } from "./parse/parse.ts";
import { recovery } from "./recovery.ts";
import { registration } from "./registration.ts";
import { type Bench, type Row, type Setup, table } from "./report.ts";
import { file, inParallel, type Runtime } from "./rivals.ts";
import { sending } from "./send.ts";
import { throughput } from "./throughput.ts";
import { worst } from "./worst.ts";

type Part = { heads: [string, string]; run: (setup: Setup) => Promise<Row[]> };

const RUNTIME_NAMES: Record<Runtime, string> = { bun: "Bun", node: "Node.js" };
const PASSWORD = "only for the bench";
const BARE: [string, string] = ["service", "bare loop"];
const GOAL: [string, string] = ["measured", "goal"];
const PARTS: Record<string, Part> = {
  latency: { heads: BARE, run: onDovecot(latency) },
  throughput: { heads: BARE, run: onDovecot(throughput) },
  memory: { heads: BARE, run: onDovecot(memory) },
  send: { heads: BARE, run: onDovecot(sending) },
  exchange: { heads: ["Exchange", "IMAP"], run: onDovecot(exchange) },
  graph: { heads: ["Graph", "IMAP"], run: onDovecot(graph) },
  cluster: { heads: ["nodes", "embedded"], run: onDovecot(cluster) },
  idle: { heads: GOAL, run: idle },
  density: { heads: GOAL, run: density },
  long: { heads: ["start", "middle"], run: long },
  registration: { heads: GOAL, run: registration },
  recovery: { heads: GOAL, run: recovery },
  failover: { heads: GOAL, run: failover },
  isolation: { heads: ["beside", "quiet or goal"], run: isolation },
  big: { heads: GOAL, run: onDovecot(big) },
  worst: { heads: GOAL, run: worst },
  outage: { heads: GOAL, run: onDovecot(outage) },
  notifications: { heads: GOAL, run: notifications },
  hostile: { heads: ["beside", "quiet"], run: hostile },
  consoles: { heads: GOAL, run: onDovecot(consoles) },
  parse: { heads: ["service", "mailparser"], run: parse },
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    mailboxes: { type: "string", default: "200" },
    mails: { type: "string", default: "200" },
    burst: { type: "string", default: "2000" },
    bytes: { type: "string", default: "10000" },
    idle: { type: "string", default: "1000" },
    held: { type: "string", default: "500" },
    dense: { type: "string", default: "16000" },
    registered: { type: "string", default: "5000" },
    long: { type: "string", default: "20000" },
    runtime: { type: "string", default: "bun" },
    tls: { type: "boolean", default: false },
    write: { type: "boolean", default: false },
  },
});
const { tls, write, ...numbers } = values;
const runtime: Runtime = values.runtime === "node" ? "node" : "bun";
const sizes = {
  mailboxes: Number(numbers.mailboxes),
  mails: Number(numbers.mails),
  burst: Number(numbers.burst),
  bytes: Number(numbers.bytes),
  idle: Number(numbers.idle),
  held: Number(numbers.held),
  dense: Number(numbers.dense),
  registered: Number(numbers.registered),
  long: Number(numbers.long),
};
if (values.runtime !== runtime) throw new Error("--runtime must be bun or node");
for (const [name, size] of Object.entries(sizes)) if (!(size >= 1)) throw new Error(`--${name} must be a number`);
const chosen = positionals.length > 0 ? positionals : Object.keys(PARTS);
const unknown = chosen.filter((name) => !(name in PARTS));
if (unknown.length > 0) throw new Error(`There is no part ${unknown.join(", ")}: ${Object.keys(PARTS).join(", ")}`);

// What is measured is the bundle of the image, with its settings of the allocator and of the JIT compiler.
process.env["SERVICE_DIR"] = file("../../dist");
await bundleService(file("../../dist"));
for (const [, name = "", value = ""] of readFileSync(file("../../Dockerfile"), "utf8").matchAll(
  /(MIMALLOC_\w+|BUN_JSC_\w+)=(\w+)/g,
))
  process.env[name] = value;

// Asked before the first section makes the work tree dirty.
const measuredAt = write ? describeRun() : "";
for (const name of chosen) {
  const part = PARTS[name];
  const load = loadavg()[0]?.toFixed(1) ?? "";
  const title = `${name}, on ${RUNTIME_NAMES[runtime]}${tls ? ", TLS" : ""}`;
  console.log(`${title}, ${cpus().length} CPUs, load ${load} ...`);
  const rows = (await part?.run({ sizes, runtime })) ?? [];
  if (!part || rows.length === 0) continue;
  console.log(`\n${table(rows, part.heads)}\n`);
  const options = process.argv.slice(2).filter((word) => !positionals.includes(word));
  const command = ["bun run bench", name, ...options].join(" ");
  if (write) await writeSection({ name: title, heads: part.heads, rows, command, run: measuredAt, load });
}

// Every part has ended what it started. Bun 1.4 stays alive after some servers whose clients hung, with no handle left.
process.exit(0);

/** Runs with a Dovecot that has as many users as the part may want. */
function onDovecot(run: (bench: Bench) => Promise<Row[]>): Part["run"] {
  return async (setup) => {
    const server = await startDovecot();
    try {
      const most = Math.max(setup.sizes.mailboxes, setup.sizes.idle);
      const all = Array.from({ length: most }, (_, index) => `bench-${index}`);
      await inParallel(all, 20, (user) => server.addUser(user, PASSWORD));
      const mail = { server, password: PASSWORD, tls };
      return await run({ ...setup, mail, users: (count) => all.slice(0, count) });
    } finally {
      await server.remove();
    }
  };
}
