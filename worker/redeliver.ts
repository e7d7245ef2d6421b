/** A `redeliver` task: the next attempt of a delivery that waits in the spool. */
import type { Delivery } from "../shared/contract/delivery.ts";
import type { RedeliverTask, TaskOutcome } from "../shared/contract/task.ts";
import { attempt } from "./attempt.ts";
import type { DeliverDeps } from "./deliver.ts";

const TAKEN_MS = 120_000;

/**
 * Attempts the delivery if it is due and nobody else has it; otherwise another task, or nobody, has reason to. A delivery
 * whose mailbox is gone was removed with it. If this throws, others may take it again.
 */
export async function redeliver(deps: DeliverDeps, task: RedeliverTask, signal: AbortSignal): Promise<TaskOutcome> {
  const { deliveries, mailboxes } = deps.store;
  const found = await mailboxes.get(task.mailbox);
  const delivery = found && (await deliveries.take(task.delivery, TAKEN_MS, task.early));
  if (!found || !delivery) return { kind: "done" };
  try {
    const raw = await deliveries.raw(delivery.id);
    if (!raw) return await withoutBytes(deps, delivery);
    const release = await deps.budget.take(raw.byteLength, signal);
    const endpoint = new URL(found.mailbox.deliver.url).origin;
    await attempt(deps, found.mailbox, { ...delivery, endpoint }, raw, signal).finally(release);
    return { kind: "done" };
  } catch (error) {
    await deliveries.save(delivery);
    throw error;
  }
}

/** Nothing can be delivered any more; a person should see it. */
async function withoutBytes(deps: DeliverDeps, delivery: Delivery): Promise<TaskOutcome> {
  const reason = "its raw bytes are missing from the spool; a replay fetches it from the mail server";
  await deps.deliveries.save({ ...delivery, state: "parked", reason, nextAttemptAt: null });
  const { id, mailbox, endpoint, attemptCount } = delivery;
  deps.emit({ kind: "mail.parked", mailbox, delivery: id, endpoint, attempts: attemptCount, reason });
  return { kind: "done" };
}
