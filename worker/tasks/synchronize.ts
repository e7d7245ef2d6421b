/** A `synchronize` task: searches messages on the mail server again, whatever the cursors say, and delivers them. */
import type { Cursor, MessageRef } from "../../shared/contract/message.ts";
import type { SynchronizeTask, TaskOutcome } from "../../shared/contract/task.ts";
import type { MailConnection } from "../../shared/mail/mail.ts";
import { clock } from "../../shared/time.ts";
import type { DeliverDeps } from "./deliver.ts";
import { awaitsLogin, toRetryableProblem } from "../mail/login-wait.ts";

/** The assumed size of the download for a search. It is larger than what may use a subscription's connection. */
const SEARCH_DOWNLOAD_BYTES = 16 * 1024 * 1024;

/**
 * Makes every message since the task's date, and those with its Message-IDs, free in the ledger and sends tasks to
 * deliver them, even if they were delivered before. If it runs twice, they are delivered twice, under the same delivery
 * ids. If the mail server cannot be used now, the task tries again later, because the request came only once.
 */
export async function synchronize(deps: DeliverDeps, task: SynchronizeTask, signal: AbortSignal): Promise<TaskOutcome> {
  const found = await deps.store.mailboxes.get(task.mailbox);
  if (!found) return { kind: "done" };
  if (awaitsLogin(found.state)) return { kind: "again", task, at: new Date(clock.now() + deps.backoff.login(1)) };
  let messages = 0;
  const cursors = await deps.store.cursors.read(task.mailbox);
  const search = async (connection: MailConnection, progress: () => void) => {
    for await (const batch of findMessages(connection, { task, cursors }, signal)) {
      progress();
      await deps.store.cursors.reopen(task.mailbox, batch);
      const deliverTask = { version: 1, kind: "deliver", mailbox: task.mailbox, messages: batch, again: true } as const;
      await deps.tasks.send(deliverTask, {}, signal);
      messages += batch.length;
    }
  };
  await deps.readers.use(found.mailbox, SEARCH_DOWNLOAD_BYTES, search, signal).catch((error: unknown) => {
    throw signal.aborted ? error : toRetryableProblem(error, deps.backoff.login(2));
  });
  const since = task.since ?? new Date().toISOString();
  deps.emit({ kind: "mailbox.resync", mailbox: task.mailbox, since, messages });
  return { kind: "done" };
}

async function* findMessages(
  connection: MailConnection,
  { task, cursors }: { task: SynchronizeTask; cursors: Cursor[] },
  signal: AbortSignal,
): AsyncGenerator<MessageRef[]> {
  if (task.since !== null) yield* connection.listSince(new Date(task.since), cursors, signal);
  if (task.messageIds.length > 0 && connection.findByMessageIds)
    yield* connection.findByMessageIds(task.messageIds, signal);
}
