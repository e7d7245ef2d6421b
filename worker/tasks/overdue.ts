/** Work whose task got lost: found by its time, and given a new one. */
import { asProblem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { slept } from "../../shared/time.ts";

type Overdue = {
  /** For the fact that tells when looking failed. */
  what: string;
  /** New tasks for what was due before then. */
  find: (dueBefore: string) => Promise<Task[]>;
  /** How late is lost; with 0 this is how what waits is found at all. */
  overdueMs: number;
};

/** How often to look: seldom where tasks are safe in a queue, often where there is none. */
const SWEEP_EVERY_MS = 30_000;
const SWEEP_SOON_MS = 1_000;

/** Looks again and again until the signal aborts, and sends each that is overdue its task. */
export async function sweep(
  { tasks, emit }: { tasks: TaskSender; emit: Emit },
  { what, find, overdueMs }: Overdue,
  signal: AbortSignal,
): Promise<void> {
  do {
    try {
      const overdue = await find(new Date(Date.now() - overdueMs).toISOString());
      // All at once: where there is no queue, sending is doing, and one slow server must not hold up the others.
      const sent = await Promise.allSettled(overdue.map((task) => tasks.send(task)));
      const failed = sent.find((one) => one.status === "rejected");
      if (failed) throw failed.reason;
    } catch (error) {
      const { code, message } = asProblem(error);
      emit({ kind: "service.failed", what: `looking for overdue ${what}`, failure: { code, cause: message } });
    }
  } while (await slept(overdueMs > 0 ? SWEEP_EVERY_MS : SWEEP_SOON_MS, signal));
}
