/** Deliveries brought forward, because their endpoint is back. */
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Deliveries } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";

type Deps = { deliveries: Deliveries; tasks: TaskSender; emit: Emit };

/** More than this wait for their own turn, so that a recovered endpoint is not overrun. */
const AT_ONCE = 5_000;

/** Has the waiting deliveries of an endpoint tried now. Returns how many. */
export async function bringForward({ deliveries, tasks, emit }: Deps, endpoint: string): Promise<number> {
  const now = new Date().toISOString();
  const all = await deliveries.retrying({ endpoint, limit: AT_ONCE });
  const waiting = all.filter(({ nextAttemptAt }) => nextAttemptAt && nextAttemptAt > now);
  const orders = waiting.map(
    ({ id, mailbox }) => ({ version: 1, kind: "redeliver", mailbox, delivery: id, early: true }) as const,
  );
  await Promise.all(orders.map((order) => tasks.send(order)));
  emit({ kind: "endpoint.recovered", endpoint, waiting: waiting.length });
  return waiting.length;
}
