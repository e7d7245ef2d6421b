/** Deliveries brought forward: those of an endpoint that is back, and those whose task got lost. */
import { asProblem } from "../shared/contract/problem.ts";
import type { TaskSender } from "../shared/queue/queue.ts";
import type { Deliveries } from "../shared/store/store.ts";
import type { Emit } from "../shared/telemetry/events.ts";
import { slept } from "../shared/time.ts";

type Deps = { deliveries: Deliveries; tasks: TaskSender; emit: Emit };

/** More than this wait for their own turn, so that a recovered endpoint is not overrun. */
const AT_ONCE = 5_000;
/** How often to look for deliveries without a task: seldom where tasks are safe in a queue, often where there is none. */
const SWEEP_EVERY_MS = 30_000;
const SWEEP_SOON_MS = 1_000;

/** Has the waiting deliveries of an endpoint tried now. Returns how many. */
export async function bringForward({ deliveries, tasks, emit }: Deps, endpoint: string): Promise<number> {
  const now = new Date().toISOString();
  const all = await deliveries.retrying({ endpoint, limit: AT_ONCE });
  const waiting = all.filter(({ nextAttemptAt }) => nextAttemptAt && nextAttemptAt > now);
  for (const { id, mailbox } of waiting) {
    await tasks.send({ version: 1, kind: "redeliver", mailbox, delivery: id, early: true });
  }
  emit({ kind: "endpoint.recovered", endpoint, waiting: waiting.length });
  return waiting.length;
}

/**
 * Looks for deliveries overdue by `overdueMs` until the signal aborts, and sends each a new task; with 0 this is how retries are
 * found at all.
 */
export async function sweepOverdue(
  { deliveries, tasks, emit }: Deps,
  overdueMs: number,
  signal: AbortSignal,
): Promise<void> {
  do {
    try {
      const dueBefore = new Date(Date.now() - overdueMs).toISOString();
      const overdue = await deliveries.retrying({ dueBefore, limit: 500 });
      // All at once: where there is no queue, sending is doing, and one slow endpoint must not hold up the others.
      const sent = overdue.map(({ id, mailbox }) =>
        tasks.send({ version: 1, kind: "redeliver", mailbox, delivery: id }),
      );
      const failed = (await Promise.allSettled(sent)).find((one) => one.status === "rejected");
      if (failed) throw failed.reason;
    } catch (error) {
      const { code, message } = asProblem(error);
      emit({ kind: "service.failed", what: "looking for overdue deliveries", failure: { code, cause: message } });
    }
  } while (await slept(overdueMs > 0 ? SWEEP_EVERY_MS : SWEEP_SOON_MS, signal));
}
