/** A `redeliver` task: the next attempt of a delivery in the spool. */
import type { Delivery } from "../../shared/contract/delivery.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { RedeliverTask, TaskOutcome } from "../../shared/contract/task.ts";
import { isAbortError } from "../../shared/run.ts";
import { clock } from "../../shared/time.ts";
import { attempt, holdBack } from "../delivery/attempt.ts";
import { MEMORY_LIMITS } from "../shares/memory.ts";
import type { DeliverDeps } from "./deliver.ts";
import { withClaimHeartbeat, recheckDelayMs } from "../delivery/claim-heartbeat.ts";

const MAX_ABSENT_LOOKUPS = 3;
const WITHOUT_BYTES = "its raw bytes are missing from the spool; a replay fetches it from the mail server";

/**
 * Attempts the delivery if it is due. If another worker has claimed it, the task repeats when that claim ends, because
 * that worker may be dead. If it is not due, another task will attempt it. A delivery is removed together with its
 * mailbox. If this throws, the claim is released.
 */
export async function redeliver(
  deps: DeliverDeps,
  task: RedeliverTask,
  tries: number,
  signal: AbortSignal,
): Promise<TaskOutcome> {
  const { deliveries, mailboxes } = deps.store;
  const found = await mailboxes.get(task.mailbox);
  const delivery = found && (await deliveries.claim(task.delivery, deps.claimMs, task.early));
  if (!found) return { kind: "done" };
  if (!delivery) return handleUnclaimed(deps, task, tries);
  const work = async (): Promise<TaskOutcome> => {
    const { mailbox } = found;
    if (await deps.findPause(mailbox)) return holdBack(deps, delivery).then(() => ({ kind: "done" as const }));
    const { endpoint } = deps.getDestinations(mailbox);
    const request = { owner: mailbox.id, bytes: delivery.ref.size, heldFor: endpoint };
    using _ = await deps.memory.acquire(request, MEMORY_LIMITS, signal);
    const raw = await deliveries.getRaw(delivery.id);
    if (!raw) return park(deps, delivery, WITHOUT_BYTES);
    await attempt(deps, mailbox, { ...delivery, endpoint: new URL(mailbox.deliver.url).origin }, raw, signal);
    return { kind: "done" };
  };
  try {
    return await withClaimHeartbeat(deps.claimMs, () => deliveries.renew(delivery.id, deps.claimMs), work);
  } catch (error) {
    if (await isForGood(deps, error)) return park(deps, delivery, asProblem(error).message);
    await deliveries.save(delivery);
    throw error;
  }
}

/** True for a failure that no other try and no other node can change. */
async function isForGood({ store }: DeliverDeps, error: unknown): Promise<boolean> {
  const { code, retry } = asProblem(error);
  if (isAbortError(error) || retry !== "never" || code === "store") return false;
  if (code !== "config") return true;
  return store.checkKeys().then(
    () => true,
    () => false,
  );
}

/** The task may run before its delivery was stored, or while another worker has claimed it. */
async function handleUnclaimed(deps: DeliverDeps, task: RedeliverTask, tries: number): Promise<TaskOutcome> {
  const delivery = await deps.deliveries.get(task.delivery);
  const due = task.early || Date.parse(delivery?.nextAttemptAt ?? "") <= clock.now();
  const shouldRecheck = delivery === undefined ? tries < MAX_ABSENT_LOOKUPS : delivery.state === "retrying" && due;
  return shouldRecheck
    ? { kind: "again", task, at: new Date(clock.now() + recheckDelayMs(deps.claimMs)) }
    : { kind: "done" };
}

/** It cannot be delivered any more, so a person must decide. */
async function park(deps: DeliverDeps, delivery: Delivery, reason: string): Promise<TaskOutcome> {
  await deps.deliveries.save({ ...delivery, state: "parked", reason, nextAttemptAt: null });
  const { id, mailbox, endpoint, attemptCount } = delivery;
  deps.emit({ kind: "mail.parked", mailbox, delivery: id, endpoint, attempts: attemptCount, reason });
  return { kind: "done" };
}
