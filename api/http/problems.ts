/** Problems as HTTP answers: application/problem+json (RFC 9457), always in the same shape. */
import { HTTPException } from "hono/http-exception";
import * as v from "valibot";
import { asProblem, Problem, PROBLEMS } from "../../shared/contract/problem.ts";
import { isAbortError } from "../../shared/run.ts";
import { clock } from "../../shared/time.ts";

/** The body of every error answer. `code` is the stable name of the problem, `fix` says what to do about it. */
export const ProblemDetails = v.object({
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
export type ProblemDetails = v.InferOutput<typeof ProblemDetails>;

/**
 * A problem as an answer. The cause of `internal` is not shown. `type` links to the problem's paragraph in the docs.
 */
export function problemResponse(problem: Problem, base: string, headers: Record<string, string> = {}): Response {
  const { code, errors, fix, evidence } = problem;
  const { status, title } = PROBLEMS[code];
  const internal = code === "internal";
  const retryAt = problem.view().retryAt;
  const body: ProblemDetails = {
    type: `${base}/docs#problem-${code}`,
    title,
    status,
    detail: internal ? "The request failed. The log of this node has the reason." : problem.message,
    code,
    fix,
    evidence: internal ? null : evidence,
    retryAt,
    errors,
  };
  const responseHeaders: Record<string, string> = {
    "content-type": "application/problem+json",
    "cache-control": "no-store",
  };
  if (status === 401) responseHeaders["www-authenticate"] = 'Bearer realm="email-listener"';
  // The rest of the body is not read.
  if (code === "too_large" || code === "timeout") responseHeaders["connection"] = "close";
  if (problem.retry instanceof Date) responseHeaders["retry-after"] = String(secondsUntil(problem.retry));
  return new Response(JSON.stringify(body), { status, headers: { ...responseHeaders, ...headers } });
}

function secondsUntil(date: Date): number {
  return Math.max(1, Math.ceil((date.getTime() - clock.now()) / 1000));
}

/** Turns what a handler threw into an answer. `onUnexpected` gets the errors that are faults of the service. */
export function errorResponse(error: unknown, base: string, onUnexpected: (problem: Problem) => void): Response {
  if (error instanceof HTTPException) return error.getResponse();
  const problem = abortProblem(error) ?? asProblem(error);
  if (problem.code === "internal") onUnexpected(problem);
  return problemResponse(problem, base);
}

/** What a handler throws when its signal aborted: the time was up, the client went away, or the node is stopping. */
function abortProblem(error: unknown): Problem | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error.name === "TimeoutError") return new Problem("timeout", "The work took longer than a request may wait.");
  return isAbortError(error) ? new Problem("unavailable", "The request was ended before it was done.") : undefined;
}

/** The problem of an id that does not exist. */
export function notFound(what: string, id: string): Problem {
  return new Problem("not_found", `There is no ${what} ${id}.`, { retry: "never" });
}
