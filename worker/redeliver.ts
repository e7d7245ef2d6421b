/** A `redeliver` task: the next attempt of a delivery that waits in the spool. */
import { Problem } from "../shared/contract/problem.ts";
import type { RedeliverTask, TaskOutcome } from "../shared/contract/task.ts";
import { attempt } from "./attempt.ts";
import type { DeliverDeps } from "./deliver.ts";

const TAKEN_MS = 120_000;

/**
 * Attempts the delivery if it is due and nobody else has it; otherwise another task, or nobody, has reason to. A delivery
 * whose mailbox is gone was removed with it.
 */
export async function redeliver(deps: DeliverDeps, task: RedeliverTask, signal: AbortSignal): Promise<TaskOutcome> {
  const { deliveries, mailboxes } = deps.store;
  const found = await mailboxes.get(task.mailbox);
  const delivery = found && (await deliveries.take(task.delivery, TAKEN_MS));
  if (!found || !delivery) return { kind: "done" };
  const raw = await deliveries.raw(delivery.id);
  if (!raw)
    throw new Problem("internal", `The raw bytes of delivery ${delivery.id} are missing from the spool`, {
      retry: "never",
    });
  const endpoint = new URL(found.mailbox.deliver.url).origin;
  const release = await deps.budget.take(raw.byteLength, signal);
  try {
    await attempt(deps, found.mailbox, { ...delivery, endpoint }, raw, signal);
  } finally {
    release();
  }
  return { kind: "done" };
}
