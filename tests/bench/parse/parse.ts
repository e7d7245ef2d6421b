/** What reading a message costs, beside mailparser in the same process, and the longest that one message holds up the event loop. */
import { startProgram } from "../program.ts";
import { ratio, type Row, type Setup, shown } from "../report.ts";
import { command, file } from "../rivals.ts";
import { letters } from "./letters.ts";
import type { ParseAnswer, WorstAnswer } from "./program.ts";

const WORST_MS = 50;

export async function parse({ runtime }: Setup): Promise<Row[]> {
  const program = startProgram([...command(runtime), file("./parse/program.ts")]);
  try {
    const rows: Row[] = [];
    for (const kind of Object.keys(letters)) {
      const { ours, peer } = JSON.parse(await program.order(kind)) as ParseAnswer;
      rows.push({
        what: `${kind}, CPU per 1,000`,
        ours: shown(ours, "ms"),
        bare: shown(peer, "ms"),
        compared: ratio(ours, peer),
      });
    }
    const { name, ms } = JSON.parse(await program.order("worst")) as WorstAnswer;
    const what = `worst message of 256 KB (${name}), beside its goal`;
    rows.push({ what, ours: shown(ms, "ms"), bare: shown(WORST_MS, "ms"), compared: ratio(ms, WORST_MS) });
    return rows;
  } finally {
    await program.end();
  }
}
