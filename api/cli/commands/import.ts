/** `cli mailbox import`: registers many mailboxes from a file of lines. */
import { createInterface } from "node:readline";
import { Readable } from "node:stream";
import { Problem } from "../../../shared/contract/problem.ts";
import { openStream } from "../service.ts";
import { type Call, type Command, type Output, readTextFile } from "./command.ts";

/** Refused lines that are printed. All of them are in the answer for programs. */
const MAX_SHOWN = 20;

export const importCommand: Command = {
  usage: "mailbox import <file>",
  summary:
    "Registers many mailboxes: each line of the file is one, with its id, as POST /api/v1/mailboxes:import takes it. - is the standard input.",
  example: "mailbox import mailboxes.ndjson",
  args: [1, 1],
  run: importFile,
};

async function importFile({ service, args: [file = ""], stop }: Call): Promise<Output> {
  const body = await readTextFile(file);
  const sent = { method: "POST", body, headers: { "content-type": "application/x-ndjson" } };
  const answer = await openStream(service, "/mailboxes:import", stop, sent);
  const results: { line: number; id: string | null; result: string; cause?: string }[] = [];
  for await (const line of createInterface({ input: Readable.from(answer) })) results.push(JSON.parse(line));
  const lines = body.split("\n").filter((line) => line.trim() !== "").length;
  if (results.length < lines) throw cutProblem(results.length, lines);
  const refused = results.filter(({ result }) => result === "refused");
  const counts = ["created", "updated", "unchanged", "refused"].map(
    (name) => `${results.filter(({ result }) => result === name).length} ${name}`,
  );
  const shown = refused.slice(0, MAX_SHOWN).map(({ line, id, cause }) => `  line ${line} ${id ?? ""}: ${cause}`);
  const more = refused.length > MAX_SHOWN ? [`  and ${refused.length - MAX_SHOWN} more; --json shows all`] : [];
  return { json: results, text: [counts.join(", "), ...shown, ...more].join("\n"), failed: refused.length > 0 };
}

function cutProblem(answered: number, lines: number): Problem {
  const fix = "Import the file again: what is registered already stays unchanged.";
  return new Problem("connect", `The answer ended after ${answered} of ${lines} lines`, { fix });
}
