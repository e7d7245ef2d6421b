/** Makes waiting deliveries due at once, because their endpoint has recovered. */
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Deliveries } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";

type BringForwardDeps = { deliveries: Deliveries; tasks: TaskSender; emit: Emit };

/** More deliveries than this wait for their own time, so that a recovered endpoint is not overloaded. */
const MAX_BROUGHT_FORWARD = 5_000;

/** So many try an endpoint of which it is not known yet whether it accepts messages again. */
const MOST_PROBES = 8;

/**
 * Sends tasks for the waiting deliveries of an endpoint that has recovered. A delivery that is due gets one too,
 * because its own task may have been put off while the endpoint was silent.
 */
export async function bringForward(deps: BringForwardDeps, endpoint: string): Promise<void> {
  const waiting = await sendEarly(deps, endpoint, MAX_BROUGHT_FORWARD);
  deps.emit({ kind: "endpoint.recovered", endpoint, waiting });
}

/** Sends tasks for a few of the waiting deliveries of an endpoint that seems to be back. */
export async function bringProbesForward(deps: BringForwardDeps, endpoint: string): Promise<void> {
  await sendEarly(deps, endpoint, MOST_PROBES);
}

async function sendEarly({ deliveries, tasks }: BringForwardDeps, endpoint: string, limit: number): Promise<number> {
  const waiting = await deliveries.listRetrying({ endpoint, limit });
  const redeliverTasks = waiting.map(
    ({ id, mailbox }) => ({ version: 1, kind: "redeliver", mailbox, delivery: id, early: true }) as const,
  );
  await Promise.all(redeliverTasks.map((task) => tasks.send(task)));
  return waiting.length;
}
