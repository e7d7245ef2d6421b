/** The measured history in SQLite. */
import { clock } from "../../../time.ts";
import type { Tally } from "../../../telemetry/tallies.ts";
import { KEPT_MS, type MeasuredMailbox, type Measures, type NodeRun, type Period } from "../../measured/measures.ts";
import {
  addReport,
  decodeEntries,
  encodeReport,
  encodeTick,
  type StateReport,
  tickOf,
  TICKS_PER_DAY,
} from "../../measured/state-entries.ts";
import type { Database } from "../database.ts";
import { integer, text } from "../row.ts";

export function sqliteMeasures(db: Database): Measures {
  return {
    record: (run, reports) => db.transactGrouped(() => record(db, run, reports)),
    count: (tally) => db.transactGrouped(() => count(db, tally)),
    readMailboxes: async (ids) => ids.map((id) => readMailbox(db, id)),
    async listRuns() {
      const rows = db.all("select * from node_runs where until_at >= ? order by from_at", clock.now() - KEPT_MS);
      return rows.map((row) => ({
        id: text(row, "id"),
        node: text(row, "node"),
        from: integer(row, "from_at"),
        until: integer(row, "until_at"),
      }));
    },
    async readPeriods(since) {
      const periods = new Map<number, Map<string, number>>();
      for (const row of db.all("select * from counts where at >= ? order by at", since)) {
        const at = integer(row, "at");
        const values = periods.get(at) ?? new Map<string, number>();
        periods.set(at, values.set(text(row, "name"), integer(row, "n")));
      }
      return [...periods].map(([at, values]): Period => ({ at, values }));
    },
  };
}

const SET_STATES =
  "insert into measured (mailbox, states) values (?, ?) on conflict do update set states = excluded.states";
const SET_LATENCY =
  "insert into measured (mailbox, latency) values (?, ?) on conflict do update set latency = excluded.latency";
const ADD = "insert into counts (at, name, n) values (?, ?, ?) on conflict do update set n = n + excluded.n";
const SET = "insert into counts (at, name, n) values (?, ?, ?) on conflict do update set n = excluded.n";

function record(db: Database, { id: run, node, from, until }: NodeRun, reports: readonly StateReport[]): void {
  const floor = encodeTick(tickOf(until).tick - TICKS_PER_DAY);
  for (const { mailbox, ...report } of reports) {
    if (!isRegistered(db, mailbox)) continue;
    const row = db.get("select states from measured where mailbox = ?", mailbox);
    const known = row === undefined ? "" : text(row, "states");
    const states = addReport(known, { run, report: encodeReport(report), floor });
    if (states !== known) db.run(SET_STATES, mailbox, states);
  }
  db.run("insert or replace into node_runs (id, node, from_at, until_at) values (?, ?, ?, ?)", run, node, from, until);
  db.run("delete from node_runs where until_at < ?", until - KEPT_MS);
}

function isRegistered(db: Database, mailbox: string): boolean {
  return db.get("select 1 from mailboxes where id = ?", mailbox) !== undefined;
}

function count(db: Database, { at, add, set, latencies }: Tally): void {
  for (const [name, n] of Object.entries(add)) db.run(ADD, at, name, n);
  for (const [name, n] of Object.entries(set)) db.run(SET, at, name, n);
  for (const { mailbox, ms } of latencies) if (isRegistered(db, mailbox)) db.run(SET_LATENCY, mailbox, Math.round(ms));
  db.run("delete from counts where at < ?", at - KEPT_MS);
}

function readMailbox(db: Database, id: string): MeasuredMailbox {
  const row = db.get("select states, latency from measured where mailbox = ?", id);
  if (row === undefined) return { states: [], latencyMs: null };
  return {
    states: decodeEntries(text(row, "states")),
    latencyMs: row["latency"] === null ? null : integer(row, "latency"),
  };
}
