/**
 * Very many mails through one process: its memory, its files on the disk, its open files and its CPU time at the start, in the middle
 * and at the end. Records of delivered mails are kept for WINDOW_DAYS, here for the shortest time that the setting allows: a run of
 * more than half an hour sees them go.
 */
import { readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { importAll, type Lean, leanIds, withLean } from "./density.ts";
import { cpuSeconds, residentMemory, settledMemory } from "./measured.ts";
import { type Row, type Setup, shown } from "./report.ts";
import { type Sink, startSink } from "./sink.ts";

const MAILBOXES = 200;
/** Mails for each mailbox at once. */
const EACH = 10;
const BATCH = MAILBOXES * EACH;
const WINDOW_DAYS = "0.01";
const LISTENING_MS = 120_000;
const ARRIVE_MS = 600_000;
/** A long run says how it goes. */
const TOLD_EACH = 20_000;
const [KIB, MIB] = [1024, 1024 * 1024];

type Run = { on: Lean; sink: Sink; ids: string[]; bytes: number; sent: number };
/** What the process has, and what the mails since the last look took. */
type Look = { mails: number; memory: number; disk: number; records: number; files: number; cpu: number };

/** Sends `--long` mails, in batches that wait for one another. */
export async function long({ sizes, runtime }: Setup): Promise<Row[]> {
  const sink = await startSink();
  try {
    return await withLean({ runtime, env: { WINDOW_DAYS } }, async (on) => {
      const ids = leanIds(0, MAILBOXES);
      await importAll(on, ids, { deliver: { url: sink.url } });
      await on.lean.untilIdling(MAILBOXES, LISTENING_MS);
      const run: Run = { on, sink, ids, bytes: sizes.bytes, sent: 0 };
      const looks: Look[] = [];
      for (const mails of [2 * BATCH, sizes.long / 2, sizes.long]) looks.push(await sendUpTo(run, mails));
      return toRows(looks);
    });
  } finally {
    await sink.close();
  }
}

async function sendUpTo(run: Run, mails: number): Promise<Look> {
  const { on, sink, ids, bytes } = run;
  const before = { cpu: await cpuSeconds(on.pid()), sent: run.sent };
  while (run.sent < mails) {
    sink.clear();
    await on.lean.deliverNumbered({ users: ids, first: run.sent, each: EACH, bytes });
    await sink.all(BATCH, ARRIVE_MS);
    run.sent += BATCH;
    // What the bench itself keeps of the log.
    on.service.facts.length = 0;
    if (run.sent % TOLD_EACH === 0) await tell(run);
  }
  const cpu = ((await cpuSeconds(on.pid())) - before.cpu) / ((run.sent - before.sent) / 1_000);
  const memory = (await settledMemory(on.pid())) * KIB;
  const delivered = await on.service.call("GET", "/api/v1/deliveries?state=delivered&limit=1");
  const files = (await readdir(`/proc/${on.pid()}/fd`)).length;
  return { mails: run.sent, memory, disk: await sizeOf(on.service.dataDir), records: delivered.body.total, files, cpu };
}

/** Memory here is what the process has while it works, with what the allocator has not given back yet. */
async function tell({ on, sent }: Run): Promise<void> {
  const [memory, disk] = [await residentMemory(on.pid()), await sizeOf(on.service.dataDir)];
  console.log(`  ${sent} mails, ${shown(memory / KIB, "MB")} of memory, ${shown(disk / MIB, "MB")} on the disk ...`);
}

/** Bytes of all files in the folder. */
async function sizeOf(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true });
  const all = await Promise.all(names.map((name) => stat(join(folder, name))));
  return all.filter((one) => one.isFile()).reduce((sum, { size }) => sum + size, 0);
}

function toRows(looks: Look[]): Row[] {
  const row = (what: string, unit: string, measure: (look: Look) => number): Row => {
    const [start = Number.NaN, middle = Number.NaN, end = Number.NaN] = looks.map(measure);
    const change = `end ${shown(end, unit)}, x ${(end / middle).toFixed(2)} of the middle`;
    return { what, ours: shown(start, unit), bare: shown(middle, unit), compared: change };
  };
  return [
    row("mails delivered so far", "", ({ mails }) => mails),
    row("memory", "MB", ({ memory }) => memory / MIB),
    row("database and its log", "MB", ({ disk }) => disk / MIB),
    row(
      `records of delivered mails, kept for ${WINDOW_DAYS} days and up to 10 minutes more`,
      "",
      ({ records }) => records,
    ),
    row("bytes of the database for each record", "B", ({ disk, records }) => disk / records),
    row("open files and connections", "", ({ files }) => files),
    row("CPU per 1,000 mails since the column before", "s", ({ cpu }) => cpu),
  ];
}
