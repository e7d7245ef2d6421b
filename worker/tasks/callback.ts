/**
 * A `callback` task: reports the state of a mailbox to its endpoint, or asks the endpoint for a new token. The last
 * accepted report is stored with the mailbox.
 */
import { delayedSignal } from "../../shared/concurrency/abort.ts";
import type { Mailbox, MailboxState } from "../../shared/contract/mailbox.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { TaskOutcome, CallbackTask } from "../../shared/contract/task.ts";
import type { DeliverDeps } from "./deliver.ts";
import type { PostOutcome, WireRequest } from "../endpoint/endpoint.ts";
import { type DialectHooks, DIALECT_HOOKS } from "../endpoint/dialect.ts";

const GRACE_MS = 5_000;

type CallbackKind = "available" | "unavailable" | "token";

/**
 * Sends the report that the mailbox's state requires and the endpoint does not have yet. Resolves once the endpoint has
 * accepted it, or if there is none. After a refused login by token it asks for a new token first. Throws `endpoint`
 * (later) if the endpoint does not accept it.
 */
export async function sendCallback(deps: DeliverDeps, task: CallbackTask, signal: AbortSignal): Promise<TaskOutcome> {
  const found = await deps.store.mailboxes.get(task.mailbox);
  const hooks = found && DIALECT_HOOKS[found.mailbox.deliver.dialect];
  if (!found || !hooks || found.mailbox.paused) return { kind: "done" };
  const { mailbox, state } = found;
  if (needsToken(mailbox, state))
    await postCallback(deps, mailbox, "token", hooks.refreshTokenRequest(mailbox), signal);
  // Another request brought the new token meanwhile. The mailbox restarts with it, and its next state is reported.
  const current = (await deps.store.mailboxes.get(mailbox.id))?.mailbox;
  if (current?.revision !== mailbox.revision) return { kind: "done" };
  await notifyState(deps, hooks, { mailbox: current, state }, signal);
  return { kind: "done" };
}

async function notifyState(
  deps: DeliverDeps,
  hooks: DialectHooks,
  { mailbox, state }: { mailbox: Mailbox; state: MailboxState },
  signal: AbortSignal,
): Promise<void> {
  const report = hooks.stateToReport(state);
  if (!report || report.told === mailbox.told) return;
  const { told, problem } = report;
  await postCallback(
    deps,
    mailbox,
    problem ? "unavailable" : "available",
    hooks.mailboxStateRequest(mailbox, problem),
    signal,
  );
  await deps.store.mailboxes.amend(mailbox, (stored) => ({ ...stored, told }));
}

function needsToken(mailbox: Mailbox, { problem }: MailboxState): boolean {
  return "accessToken" in mailbox.receive.auth && (problem?.code === "auth" || problem?.code === "token");
}

async function postCallback(
  deps: DeliverDeps,
  mailbox: Mailbox,
  what: CallbackKind,
  request: WireRequest,
  signal: AbortSignal,
): Promise<void> {
  const endpoint = new URL(mailbox.deliver.url).origin;
  const { callbacks: destination } = deps.getDestinations(mailbox);
  // The callback URL has its own circuit breaker, so messages continue while callbacks fail.
  const target = { url: request.url, destination, owner: mailbox.id };
  const permit = await deps.circuitBreakers.acquire(target, signal);
  if (permit.kind === "rest")
    throw new Problem("endpoint", "The endpoint is paused after several failures", { retry: permit.until });
  // If a shutdown cut off the request, the endpoint might have the report and get it again after the next start.
  using grace = delayedSignal(signal, GRACE_MS);
  let outcome: PostOutcome | undefined;
  try {
    outcome = await deps.post(request, grace.signal);
  } finally {
    permit.release(outcome);
  }
  deps.emit({ kind: "endpoint.notified", mailbox: mailbox.id, endpoint, what, status: outcome.status });
  if (outcome.kind === "refused") throw new Problem("endpoint", outcome.reason, { retry: outcome.retryAt ?? "later" });
}
