/** A `load` task: messages are looked up on the mail server once more, whatever the cursors say, and handed over. */
import type { MailboxState } from "../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../shared/contract/problem.ts";
import type { Cursor, MessageRef } from "../shared/contract/message.ts";
import type { LoadTask, TaskOutcome } from "../shared/contract/task.ts";
import type { MailConnection } from "../shared/mail/mail.ts";
import type { DeliverDeps } from "./tasks/deliver.ts";

/** How much is taken to be downloaded by looking up: more than a subscription lends its connection for. */
const LONG_LOOK_BYTES = 16 * 1024 * 1024;

/**
 * Puts every message received since the task's date, and those with its Message-IDs, back into the ledger's care and orders
 * their delivery, also of what was delivered before. Done twice it delivers twice, under the same delivery ids. A mail server
 * that cannot be used now, for whatever reason, is asked again later: the order came once.
 */
export async function load(deps: DeliverDeps, task: LoadTask, signal: AbortSignal): Promise<TaskOutcome> {
  const found = await deps.store.mailboxes.get(task.mailbox);
  if (!found) return { kind: "done" };
  if (awaitsLogin(found.state)) return { kind: "again", task, at: new Date(Date.now() + deps.backoff.login(1)) };
  let messages = 0;
  const cursors = await deps.store.cursors.read(task.mailbox);
  const look = async (connection: MailConnection) => {
    for await (const batch of lookUp(connection, { task, cursors }, signal)) {
      await deps.store.cursors.reopen(task.mailbox, batch);
      await deps.tasks.send({ version: 1, kind: "deliver", mailbox: task.mailbox, messages: batch, again: true });
      messages += batch.length;
    }
  };
  await deps.readers.use(found.mailbox, LONG_LOOK_BYTES, look, signal).catch((error: unknown) => {
    throw signal.aborted ? error : forLater(error, deps.backoff.login(2));
  });
  const since = task.since ?? new Date().toISOString();
  deps.emit({ kind: "mailbox.resync", mailbox: task.mailbox, since, messages });
  return { kind: "done" };
}

async function* lookUp(
  connection: MailConnection,
  { task, cursors }: { task: LoadTask; cursors: Cursor[] },
  signal: AbortSignal,
): AsyncGenerator<MessageRef[]> {
  if (task.since !== null) yield* connection.since(new Date(task.since), cursors, signal);
  if (task.messageIds.length > 0 && connection.find) yield* connection.find(task.messageIds, signal);
}

/** True while the mailbox waits for new credentials: another login from here would bring it nearer to being locked. */
export function awaitsLogin({ status, problem }: MailboxState): boolean {
  return status === "needs_attention" && (problem?.code === "auth" || problem?.code === "auth_method");
}

/**
 * A fault of the mail server that only a person can mend ends no task: its messages are waiting, and the person may come. Logins
 * are tried seldom then, so that nobody is locked out.
 */
export function forLater(error: unknown, waitMs: number): unknown {
  const problem = asProblem(error);
  if (problem.retry !== "never") return problem;
  const { code, message, evidence } = problem;
  const retry = new Date(Date.now() + waitMs);
  return new Problem(code, message, { retry, cause: error, ...(evidence !== null && { evidence }) });
}
