/** What a command of the command line is, and what the commands have in common. */
import type { ParseArgsOptionsConfig } from "node:util";
import { readFile } from "node:fs/promises";
import process from "node:process";
import { text as readText } from "node:stream/consumers";
import { Problem } from "../../../shared/contract/problem.ts";
import type { Json, Service } from "../service.ts";
import { formatTable } from "../table.ts";

/** `args` are the words after the command's name. `print` writes a line at once, for commands that go on. */
export type Call = {
  service: Service;
  args: string[];
  values: Record<string, string | boolean | undefined>;
  print: (line: string) => void;
  stop: AbortSignal;
};
/** What a command prints: the answer for programs, the text for people. `failed`: the exit code is 1. */
export type Output = { json: unknown; text: string; failed?: boolean };
export type Command = {
  usage: string;
  summary: string;
  example: string;
  /** How many words it needs, and may have, after its name. */
  args: [least: number, most: number];
  options?: ParseArgsOptionsConfig;
  run(call: Call): Promise<Output>;
};

/** Options of commands that list pages. */
export const PAGE_OPTIONS = { limit: { type: "string" }, cursor: { type: "string" } } as const;

/** A query string of those options that have a value; empty if none has. */
export function queryOf(values: Call["values"], names: string[]): string {
  const given = names.flatMap((name): [string, string][] =>
    typeof values[name] === "string" ? [[name, values[name]]] : [],
  );
  return given.length > 0 ? `?${new URLSearchParams(given).toString()}` : "";
}

export const textOf = (values: Call["values"], name: string): string | undefined =>
  typeof values[name] === "string" ? values[name] : undefined;

/** The rows of a page, and how to get the next one. */
export function formatPage(answer: Json, names: string[], toRow: (item: Json) => unknown[]): string {
  const items = itemsOf(answer);
  const { next, total } = answer;
  const more = typeof next === "string" ? `\n${items.length} of ${String(total)}. The next: --cursor ${next}` : "";
  return items.length === 0 ? "There are none." : formatTable(names, items.map(toRow)) + more;
}

export function itemsOf(answer: Json): Json[] {
  return Array.isArray(answer["items"]) ? (answer["items"] as Json[]) : [];
}

/** The JSON object in a file; `-` is the standard input. Throws `config` if there is none. */
export async function readJsonFile(path: string): Promise<Json> {
  const text = await readTextFile(path);
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return { ...value };
  } catch (cause) {
    throw new Problem("config", `${path} is not JSON: ${String(cause)}`, { retry: "never", fix: NAME_FILE, cause });
  }
  throw new Problem("config", `${path} has no JSON object`, { retry: "never", fix: NAME_FILE });
}

/** The text of a file; `-` is the standard input. Throws `config` if it cannot be read. */
export async function readTextFile(path: string): Promise<string> {
  return path === "-" ? readText(process.stdin) : readFile(path, "utf8").catch(asProblem(path));
}

const NAME_FILE = "Give a file with one JSON object, or - for the standard input.";

function asProblem(path: string) {
  return (cause: unknown): never => {
    throw new Problem("config", `${path} cannot be read`, { retry: "never", fix: NAME_FILE, cause });
  };
}
