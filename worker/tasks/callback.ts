/** A `tell` task: the endpoint hears how its mailbox is doing, or is asked for a new token; what it heard last is kept with the mailbox. */
import type { Mailbox, MailboxState } from "../../shared/contract/mailbox.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { TaskOutcome, TellTask } from "../../shared/contract/task.ts";
import { graceAfter } from "../../shared/time.ts";
import type { DeliverDeps } from "./deliver.ts";
import type { PostOutcome, WireRequest } from "../endpoint/endpoint.ts";
import { type Manners, MANNERS } from "../endpoint/dialect.ts";

const GRACE_MS = 5_000;

type What = "available" | "unavailable" | "token";

/**
 * Says what the mailbox's state now calls for and the endpoint has not heard yet. Resolves once it has heard, or has nothing to
 * hear. A refused login by token asks for a new one first. Throws `endpoint` (later) when the endpoint does not accept it.
 */
export async function tell(deps: DeliverDeps, task: TellTask, signal: AbortSignal): Promise<TaskOutcome> {
  const found = await deps.store.mailboxes.get(task.mailbox);
  const manners = found && MANNERS[found.mailbox.deliver.dialect];
  if (!found || !manners || found.mailbox.paused) return { kind: "done" };
  const { mailbox, state } = found;
  if (wantsToken(mailbox, state)) await say(deps, mailbox, "token", manners.renew(mailbox), signal);
  // The new token came meanwhile, by another request: the mailbox starts over with it, and its next state is told.
  const present = (await deps.store.mailboxes.get(mailbox.id))?.mailbox;
  if (present?.revision !== mailbox.revision) return { kind: "done" };
  await tellState(deps, manners, { mailbox: present, state }, signal);
  return { kind: "done" };
}

async function tellState(
  deps: DeliverDeps,
  manners: Manners,
  { mailbox, state }: { mailbox: Mailbox; state: MailboxState },
  signal: AbortSignal,
): Promise<void> {
  const news = manners.news(state);
  if (!news || news.told === mailbox.told) return;
  const { told, problem } = news;
  await say(deps, mailbox, problem ? "unavailable" : "available", manners.tell(mailbox, problem), signal);
  await deps.store.mailboxes.amend({ ...mailbox, told });
}

function wantsToken(mailbox: Mailbox, { problem }: MailboxState): boolean {
  return "accessToken" in mailbox.receive.auth && (problem?.code === "auth" || problem?.code === "token");
}

async function say(
  deps: DeliverDeps,
  mailbox: Mailbox,
  what: What,
  request: WireRequest,
  signal: AbortSignal,
): Promise<void> {
  const endpoint = new URL(mailbox.deliver.url).origin;
  const entry = await deps.gates.enter(endpoint, signal);
  if (entry.kind === "rest")
    throw new Problem("endpoint", "The endpoint is left alone for a while", { retry: entry.until });
  // Cut off by a shutdown, the endpoint might have heard and would hear it again after the next start.
  const grace = graceAfter(signal, GRACE_MS);
  let outcome: PostOutcome | undefined;
  try {
    outcome = await deps.post(request, grace.signal);
  } finally {
    grace.over();
    entry.leave(outcome);
  }
  deps.emit({ kind: "endpoint.told", mailbox: mailbox.id, endpoint, what, status: outcome.status });
  if (outcome.kind === "refused") throw new Problem("endpoint", outcome.reason, { retry: outcome.retryAt ?? "later" });
}
