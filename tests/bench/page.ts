/** What `--write` writes: docs/performance.md with one section for each part of the bench and each way it was run, and api/measured.json. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { cpus } from "node:os";
import { fileURLToPath } from "node:url";
import { format, type FormatConfig } from "oxfmt";
import style from "../../.oxfmtrc.json" with { type: "json" };
import type { Row } from "./report.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const MEASURED_FILE = fileURLToPath(new URL("../../api/measured.json", import.meta.url));
const FILE = fileURLToPath(new URL("../../docs/performance.md", import.meta.url));
const INTRODUCTION = `# Performance

\`bun run bench\` measures the service beside a reference in the same run, and \`bun run bench --write\` writes this page. Figures of two
machines, or of two sections, cannot be compared; the last column can. The reference of a mail table is a bare loop: imapflow in IDLE
that fetches what is new and posts it raw, with no store, no retries and no parsing. Unless a table says otherwise, mails have 10 KB and
Dovecot holds the mailboxes on the same machine, so its time and the endpoint's are part of every figure.
`;

export type Section = {
  /** The part, with the runtime and, if so, TLS. */
  name: string;
  heads: readonly [string, string];
  rows: Row[];
  /** The command line that repeats it. */
  command: string;
  /** What `describeRun` said before the first part. */
  run: string;
  /** The load of the machine before the part began. */
  load: string;
};

/** Replaces the section of that name, or adds it at the end, and the figures of the sizing table that are in it. */
export async function writeSection(section: Section): Promise<void> {
  await writeSizingFigures(section);
  const text = existsSync(FILE) ? readFileSync(FILE, "utf8") : "";
  const sections = new Map(
    text
      .split(/^(?=## )/m)
      .slice(1)
      .map((one) => [one.slice("## ".length, one.indexOf("\n")), one.trimEnd()]),
  );
  sections.set(section.name, render(section));
  const page = [INTRODUCTION.trimEnd(), ...sections.values()].join("\n\n");
  await write(FILE, `${page}\n`);
}

async function writeSizingFigures({ rows, command, run }: Section): Promise<void> {
  const found = Object.assign({}, ...rows.map(({ sizing }) => sizing)) as NonNullable<Row["sizing"]>;
  const figures = Object.entries(found).map(([name, value]) => [name, { value, from: `${command}, ${run}` }]);
  if (figures.length === 0) return;
  const all = { ...JSON.parse(readFileSync(MEASURED_FILE, "utf8")), ...Object.fromEntries(figures) };
  await write(MEASURED_FILE, JSON.stringify(all));
}

async function write(file: string, text: string): Promise<void> {
  const { code, errors } = await format(file, text, style as FormatConfig);
  if (errors.length > 0) throw new Error(`${file}: ${errors[0]?.message}`);
  writeFileSync(file, code);
}

function git(...args: string[]): string {
  return execFileSync("git", ["-C", ROOT, ...args], { encoding: "utf8" }).trim();
}

/** When, on which code and on which machine. */
export function describeRun(): string {
  // What this module writes changes no figure.
  const changed = git(
    "status",
    "--porcelain",
    "-uno",
    "--",
    ".",
    ...[FILE, MEASURED_FILE].map((one) => `:(exclude)${one}`),
  );
  const commit = git("rev-parse", "--short", "HEAD") + (changed === "" ? "" : " with changes");
  const machine = `${cpus().length} CPUs (${cpus()[0]?.model.trim() ?? "unknown"})`;
  return `${new Date().toISOString().slice(0, 10)}, commit ${commit}, ${machine}`;
}

function render({ name, heads, rows, command, run, load }: Section): string {
  const lines = [["", ...heads, "compared"], ["---", "---:", "---:", "---:"], ...rows.map(toCells)];
  return [
    `## ${name}`,
    `\`${command}\`, ${run}, load ${load} before.`,
    lines.map((cells) => `| ${cells.join(" | ")} |`).join("\n"),
  ].join("\n\n");
}

const toCells = ({ what, ours, bare, compared }: Row) => [what, ours, bare, compared];
