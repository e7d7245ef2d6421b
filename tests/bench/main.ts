/**
 * The bench: the service beside a bare imapflow loop on the same Dovecot, and its Exchange mailboxes beside its IMAP ones, in one run.
 * Prints tables and writes nothing. Figures of two machines cannot be compared, the ratios can.
 *
 *   bun run bench [latency] [throughput] [memory] [send] [exchange] [--mailboxes 200] [--mails 200] [--burst 2000] [--bytes 10000]
 *                 [--idle 1000] [--runtime bun|node] [--tls]
 */
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import { startDovecot } from "../servers/dovecot.ts";
import { exchange } from "./exchange.ts";
import { latency } from "./latency.ts";
import { memory } from "./memory.ts";
import { type Bench, type Row, table } from "./report.ts";
import { inParallel, type Runtime } from "./rivals.ts";
import { sending } from "./send.ts";
import { throughput } from "./throughput.ts";

const PARTS: Record<string, (bench: Bench) => Promise<Row[]>> = {
  latency,
  throughput,
  memory,
  send: sending,
  exchange,
};
const PASSWORD = "only for the bench";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    mailboxes: { type: "string", default: "200" },
    mails: { type: "string", default: "200" },
    burst: { type: "string", default: "2000" },
    bytes: { type: "string", default: "10000" },
    idle: { type: "string", default: "1000" },
    runtime: { type: "string", default: "bun" },
    tls: { type: "boolean", default: false },
  },
});
const { tls, ...numbers } = values;
const runtime: Runtime = values.runtime === "node" ? "node" : "bun";
const sizes = {
  mailboxes: Number(numbers.mailboxes),
  mails: Number(numbers.mails),
  burst: Number(numbers.burst),
  bytes: Number(numbers.bytes),
  idle: Number(numbers.idle),
};
if (values.runtime !== runtime) throw new Error("--runtime must be bun or node");
for (const [name, size] of Object.entries(sizes)) if (!(size >= 1)) throw new Error(`--${name} must be a number`);
const chosen = positionals.length > 0 ? positionals : Object.keys(PARTS);
const unknown = chosen.filter((name) => !(name in PARTS));
if (unknown.length > 0) throw new Error(`There is no part ${unknown.join(", ")}: ${Object.keys(PARTS).join(", ")}`);

const rows: Row[] = [];
const exchangeRows: Row[] = [];
for (const name of chosen) {
  const load = loadavg()[0]?.toFixed(1);
  console.log(`${name}, on ${runtime}${tls ? ", TLS" : ""}, ${cpus().length} CPUs, load ${load} ...`);
  const server = await startDovecot();
  try {
    const most = Math.max(sizes.mailboxes, sizes.idle);
    const all = Array.from({ length: most }, (_, index) => `${name}-${index}`);
    await inParallel(all, 20, (user) => server.addUser(user, PASSWORD));
    const bench = {
      mail: { server, password: PASSWORD, tls },
      users: (count: number) => all.slice(0, count),
      sizes,
      runtime,
    };
    (name === "exchange" ? exchangeRows : rows).push(...((await PARTS[name]?.(bench)) ?? []));
  } finally {
    await server.remove();
  }
}
if (rows.length > 0) console.log(`\n${table(rows)}`);
if (exchangeRows.length > 0) console.log(`\n${table(exchangeRows, ["Exchange", "IMAP"])}`);
