/** Reads Redis' replies and checks that each has the expected shape, so that keys of another program are noticed. */
import { Problem } from "../../../contract/problem.ts";

export function listOf(reply: unknown): unknown[] {
  if (Array.isArray(reply)) return reply;
  throw toReplyProblem(reply);
}

export function textOf(reply: unknown): string {
  if (typeof reply === "string") return reply;
  throw toReplyProblem(reply);
}

export function textOrNull(reply: unknown): string | null {
  return reply === null || reply === undefined ? null : textOf(reply);
}

export function textsOf(reply: unknown): string[] {
  return listOf(reply).map(textOf);
}

/** A hash, in either form that the client returns. */
export function recordOf(reply: unknown): [name: string, value: string][] {
  if (typeof reply === "object" && reply !== null && !Array.isArray(reply)) {
    return Object.entries(reply).map(([name, value]) => [name, textOf(value)]);
  }
  const flat = textsOf(reply);
  return flat.flatMap((name, n): [string, string][] => (n % 2 === 0 ? [[name, flat[n + 1] ?? ""]] : []));
}

/** Whole numbers come as numbers, or as texts from scripts and scores. */
export function numberOf(reply: unknown): number {
  const number = typeof reply === "string" && reply !== "" ? Number(reply) : reply;
  if (typeof number === "number" && !Number.isNaN(number)) return number;
  throw toReplyProblem(reply);
}

function toReplyProblem(reply: unknown): Problem {
  const what = reply === null ? "nothing" : typeof reply;
  return new Problem("store", `Redis holds or answered something unexpected (${what})`, { retry: "never" });
}
