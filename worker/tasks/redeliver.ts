/** A `redeliver` task: the next attempt of a delivery that waits in the spool. */
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { RedeliverTask, TaskOutcome } from "../../shared/contract/task.ts";
import { attempt } from "../delivery/attempt.ts";
import type { DeliverDeps } from "./deliver.ts";
import { holding, lookAgainMs } from "../delivery/claim-heartbeat.ts";

const LOOKS_FOR_ABSENT = 3;

/**
 * Attempts the delivery if it is due. Who finds it taken looks again when that ends, for its holder may have died; what is not due
 * is another task's business. A delivery whose mailbox is gone was removed with it. If this throws, others may take it again.
 */
export async function redeliver(
  deps: DeliverDeps,
  task: RedeliverTask,
  tries: number,
  signal: AbortSignal,
): Promise<TaskOutcome> {
  const { deliveries, mailboxes } = deps.store;
  const found = await mailboxes.get(task.mailbox);
  const delivery = found && (await deliveries.take(task.delivery, deps.takenMs, task.early));
  if (!found) return { kind: "done" };
  if (!delivery) return untaken(deps, task, tries);
  const work = async (): Promise<TaskOutcome> => {
    const raw = await deliveries.raw(delivery.id);
    if (!raw) return withoutBytes(deps, delivery);
    const release = await deps.budget.take(raw.byteLength, signal);
    const endpoint = new URL(found.mailbox.deliver.url).origin;
    await attempt(deps, found.mailbox, { ...delivery, endpoint }, raw, signal).finally(release);
    return { kind: "done" };
  };
  try {
    return await holding(deps.takenMs, () => deliveries.keep(delivery.id, deps.takenMs), work);
  } catch (error) {
    await deliveries.save(delivery);
    throw error;
  }
}

/** The task may have come before its delivery was written, or while somebody has it. */
async function untaken(deps: DeliverDeps, task: RedeliverTask, tries: number): Promise<TaskOutcome> {
  const delivery = await deps.deliveries.get(task.delivery);
  const due = task.early || Date.parse(delivery?.nextAttemptAt ?? "") <= Date.now();
  const look = delivery === undefined ? tries < LOOKS_FOR_ABSENT : delivery.state === "retrying" && due;
  return look ? { kind: "again", task, at: new Date(Date.now() + lookAgainMs(deps.takenMs)) } : { kind: "done" };
}

/** Nothing can be delivered any more; a person should see it. */
async function withoutBytes(deps: DeliverDeps, delivery: Delivery): Promise<TaskOutcome> {
  const reason = "its raw bytes are missing from the spool; a replay fetches it from the mail server";
  await deps.deliveries.save({ ...delivery, state: "parked", reason, nextAttemptAt: null });
  const { id, mailbox, endpoint, attemptCount } = delivery;
  deps.emit({ kind: "mail.parked", mailbox, delivery: id, endpoint, attempts: attemptCount, reason });
  return { kind: "done" };
}
