/** A `tidy` task: what the mailbox wants done with messages that its endpoint has accepted. */
import type { TaskOutcome, TidyTask } from "../../shared/contract/task.ts";
import { afterDeliveryOf } from "../../shared/mail/defaults.ts";
import type { DeliverDeps } from "./deliver.ts";

/** Marks, deletes or moves the messages; those already gone are skipped, so doing it twice does no harm. */
export async function tidy(deps: DeliverDeps, task: TidyTask, signal: AbortSignal): Promise<TaskOutcome> {
  const found = await deps.store.mailboxes.get(task.mailbox);
  if (!found) return { kind: "done" };
  const action = afterDeliveryOf(found.mailbox.receive);
  if (action === "leave") return { kind: "done" };
  await deps.readers.use(found.mailbox, 0, (connection) => connection.tidy(task.messages, action, signal), signal);
  const folder = task.messages[0]?.folder ?? "";
  deps.emit({ kind: "mail.tidied", mailbox: task.mailbox, folder, count: task.messages.length });
  return { kind: "done" };
}
