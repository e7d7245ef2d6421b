/** Makes waiting deliveries due at once, because their endpoint has recovered. */
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Deliveries } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";

type BringForwardDeps = { deliveries: Deliveries; tasks: TaskSender; emit: Emit };

/** More deliveries than this wait for their own time, so that a recovered endpoint is not overloaded. */
const MAX_BROUGHT_FORWARD = 5_000;

/**
 * Sends tasks for the waiting deliveries of an endpoint. Returns how many. A delivery that is due has one too, because
 * its own task may have been put off while the endpoint was silent.
 */
export async function bringForward({ deliveries, tasks, emit }: BringForwardDeps, endpoint: string): Promise<number> {
  const waiting = await deliveries.listRetrying({ endpoint, limit: MAX_BROUGHT_FORWARD });
  const redeliverTasks = waiting.map(
    ({ id, mailbox }) => ({ version: 1, kind: "redeliver", mailbox, delivery: id, early: true }) as const,
  );
  await Promise.all(redeliverTasks.map((task) => tasks.send(task)));
  emit({ kind: "endpoint.recovered", endpoint, waiting: waiting.length });
  return waiting.length;
}
