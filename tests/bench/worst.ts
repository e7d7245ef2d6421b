/**
 * Mails of 15 MB made to cost: the most memory of a process that parses one and encodes it for its endpoint. Each has a
 * process of its own. It does not download and holds no mailboxes, so it is smaller than the service.
 */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { slowValues } from "../letters/slow-values.ts";
import { slowLetters } from "../letters/slow.ts";
import type { WorstAnswer } from "./parse/worst-program.ts";
import { startProgram } from "./program.ts";
import { ratio, type Row, type Setup, shown } from "./report.ts";
import { command, file } from "./rivals.ts";

const BYTES = 15_000_000;
const MOST_MB = 512;
const LONGEST_BLOCK_MS = 500;

export async function worst({ runtime }: Setup): Promise<Row[]> {
  const folder = await mkdtemp(join(tmpdir(), "email-listener-bench-"));
  const path = join(folder, "mail");
  const answers: (WorstAnswer & { name: string })[] = [];
  try {
    for (const [name, grow] of Object.entries({ ...slowLetters, ...slowValues })) {
      await writeFile(path, grow(BYTES));
      const program = startProgram([...command(runtime), file("./parse/worst-program.ts")]);
      try {
        answers.push({ name, ...(JSON.parse(await program.order(path)) as WorstAnswer) });
      } finally {
        await program.end();
      }
    }
  } finally {
    await rm(folder, { recursive: true });
  }
  const rows = answers.toSorted((a, b) => b.mb - a.mb).slice(0, 3);
  const slowest = answers.reduce((one, other) => (other.blockedMs > one.blockedMs ? other : one));
  const over = answers.filter(({ mb }) => mb > MOST_MB).length;
  return [
    ...rows.map(({ name, mb }) => against(`most memory, ${name}`, mb, MOST_MB, "MB")),
    { what: `of ${answers.length} mails over ${MOST_MB} MB`, ours: String(over), bare: "0", compared: "" },
    against(`longest block of the event loop, ${slowest.name}`, slowest.blockedMs, LONGEST_BLOCK_MS, "ms"),
  ];
}

function against(what: string, measured: number, goal: number, unit: string): Row {
  return { what, ours: shown(measured, unit), bare: shown(goal, unit), compared: ratio(measured, goal) };
}
