/** An `afterDelivery` task: what the mailbox wants done with delivered messages. */
import type { TaskOutcome, AfterDeliveryTask } from "../../shared/contract/task.ts";
import { afterDeliveryOf } from "../../shared/mail/defaults.ts";
import type { DeliverDeps } from "./deliver.ts";

/** Marks, deletes or moves the messages. Missing ones are skipped, so doing it twice does no harm. */
export async function applyAfterDelivery(
  deps: DeliverDeps,
  task: AfterDeliveryTask,
  signal: AbortSignal,
): Promise<TaskOutcome> {
  const found = await deps.store.mailboxes.get(task.mailbox);
  if (!found) return { kind: "done" };
  const action = afterDeliveryOf(found.mailbox.receive);
  if (action === "leave") return { kind: "done" };
  const kept = await deps.readers.use(
    found.mailbox,
    0,
    (connection) => connection.applyAfterDelivery(task.messages, action, signal),
    signal,
  );
  const { mailbox } = task;
  for (const { ref, reason } of kept)
    deps.emit({ kind: "mail.kept", mailbox, folder: ref.folder, uid: ref.uid, reason });
  const folder = task.messages[0]?.folder ?? "";
  const count = task.messages.length - kept.length;
  if (count > 0) deps.emit({ kind: "mail.after_delivery_done", mailbox, folder, count });
  return { kind: "done" };
}
