/** How commands end that failed: one line with the cause and the remedy, never a stack trace. */
import process from "node:process";
import { asProblem } from "../../shared/contract/problem.ts";

/** Prints the line, and makes the process end with 1. */
export function reportFailure(what: string, error: unknown): void {
  const { message, fix } = asProblem(error);
  console.error([`${what}: ${message}`, fix].map(toSentence).filter(Boolean).join(" "));
  process.exitCode = 1;
}

function toSentence(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line === "" || /[.!?]$/.test(line) ? line : `${line}.`;
}
