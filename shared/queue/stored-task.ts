/** Reads a stored task carefully, because another version of the service may have written it. */
import * as v from "valibot";
import { Problem } from "../contract/problem.ts";
import { quoteWords } from "../evidence/evidence.ts";
import { StoredTask, type Task } from "../contract/task.ts";

/** The task, or a Problem if this version cannot read it. */
export function parseTask(json: string): Task | Problem {
  const result = v.safeParse(StoredTask, json);
  if (result.success) return result.output;
  return new Problem("internal", "A task was written by another version of the service", {
    evidence: quoteWords(result.issues[0].message, { secrets: [] }),
  });
}
