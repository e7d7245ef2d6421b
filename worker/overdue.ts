/** Outgoing messages whose task got lost: found by their time, and given a new one. */
import { asProblem } from "../shared/contract/problem.ts";
import type { TaskSender } from "../shared/queue/queue.ts";
import type { Outbox } from "../shared/store/store.ts";
import type { Emit } from "../shared/telemetry/events.ts";
import { slept } from "../shared/time.ts";

type Deps = { outbox: Outbox; tasks: TaskSender; emit: Emit };

/** How often to look: seldom where tasks are safe in a queue, often where there is none. */
const SWEEP_EVERY_MS = 30_000;
const SWEEP_SOON_MS = 1_000;

/** Looks for sendings overdue by `overdueMs` until the signal aborts, and sends each a new task. */
export async function sweepSendings(
  { outbox, tasks, emit }: Deps,
  overdueMs: number,
  signal: AbortSignal,
): Promise<void> {
  do {
    try {
      const dueBefore = new Date(Date.now() - overdueMs).toISOString();
      for (const { id, mailbox } of await outbox.overdue({ dueBefore, limit: 500 })) {
        await tasks.send({ version: 1, kind: "send", mailbox, sending: id });
      }
    } catch (error) {
      const { code, message } = asProblem(error);
      emit({ kind: "service.failed", what: "looking for overdue sendings", failure: { code, cause: message } });
    }
  } while (await slept(overdueMs > 0 ? SWEEP_EVERY_MS : SWEEP_SOON_MS, signal));
}
