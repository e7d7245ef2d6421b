/** Problems as HTTP answers: application/problem+json (RFC 9457), the same shape whatever went wrong. */
import { HTTPException } from "hono/http-exception";
import * as v from "valibot";
import { asProblem, Problem, PROBLEMS } from "../../shared/contract/problem.ts";
import { isAbort } from "../../shared/run.ts";

/** The body of every answer that is an error. `code` is the stable name of the problem, `fix` what to do about it. */
export const ProblemAnswer = v.object({
  type: v.string(),
  title: v.string(),
  status: v.number(),
  detail: v.string(),
  code: v.string(),
  fix: v.string(),
  evidence: v.nullable(v.string()),
  retryAt: v.nullable(v.string()),
  errors: v.array(v.object({ path: v.string(), message: v.string() })),
});
export type ProblemAnswer = v.InferOutput<typeof ProblemAnswer>;

/** A problem as an answer. `internal` keeps its cause to itself. `type` leads to the problem's paragraph in the docs. */
export function problemAnswer(problem: Problem, base: string, headers: Record<string, string> = {}): Response {
  const { code, errors, fix, evidence } = problem;
  const { status, title } = PROBLEMS[code];
  const internal = code === "internal";
  const retryAt = problem.view().retryAt;
  const body: ProblemAnswer = {
    type: `${base}/docs#problem-${code}`,
    title,
    status,
    detail: internal ? "The request failed for a reason that the log of this node names." : problem.message,
    code,
    fix,
    evidence: internal ? null : evidence,
    retryAt,
    errors,
  };
  const more: Record<string, string> = { "content-type": "application/problem+json", "cache-control": "no-store" };
  if (status === 401) more["www-authenticate"] = 'Bearer realm="email-listener"';
  if (problem.retry instanceof Date) more["retry-after"] = String(secondsUntil(problem.retry));
  return new Response(JSON.stringify(body), { status, headers: { ...more, ...headers } });
}

function secondsUntil(date: Date): number {
  return Math.max(1, Math.ceil((date.getTime() - Date.now()) / 1000));
}

/** What a handler threw, as an answer; `unexpected` hears of those that are nobody's fault but ours. */
export function errorAnswer(error: unknown, base: string, unexpected: (problem: Problem) => void): Response {
  if (error instanceof HTTPException) return error.getResponse();
  const problem = cutShort(error) ?? asProblem(error);
  if (problem.code === "internal") unexpected(problem);
  return problemAnswer(problem, base);
}

/** What a handler throws when its signal aborted: the time was up, or the client went away or the node stops. */
function cutShort(error: unknown): Problem | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name === "TimeoutError") return new Problem("timeout", "The work took longer than a request may wait.");
  return isAbort(error) ? new Problem("unavailable", "The request was ended before it was done.") : undefined;
}

/** The problem of an id that leads nowhere. */
export function notFound(what: string, id: string): Problem {
  return new Problem("not_found", `There is no ${what} ${id}.`, { retry: "never" });
}
