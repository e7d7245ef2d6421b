/** Tasks wait while the login of their mailbox is refused, or while only a person can fix its server. */
import type { MailboxState } from "../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import { clock } from "../../shared/time.ts";

/** True while the mailbox waits for new credentials. Another login from here could lock the account. */
export function awaitsLogin({ status, problem }: MailboxState): boolean {
  return status === "needs_attention" && (problem?.code === "auth" || problem?.code === "auth_method");
}

/**
 * A problem of the mail server that only a person can fix ends no task: its messages wait, and the person may fix it.
 * Logins are rare then, so that no account is locked.
 */
export function toRetryableProblem(error: unknown, waitMs: number): unknown {
  const problem = asProblem(error);
  if (problem.retry !== "never") return problem;
  const { code, message, evidence, fix } = problem;
  const retry = new Date(clock.now() + waitMs);
  return new Problem(code, message, { retry, fix, cause: error, ...(evidence !== null && { evidence }) });
}
