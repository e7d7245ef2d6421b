/** Finds work whose task was lost, by its due time, and sends a new task. */
import { asProblem } from "../../shared/contract/problem.ts";
import type { Task } from "../../shared/contract/task.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock, sleep } from "../../shared/time.ts";

type SweepOptions = {
  /** The name in the fact about a failed search. */
  what: string;
  /** New tasks for everything that was due before this time. */
  find: (dueBefore: string) => Promise<Task[]>;
};

/** Work that is this late has no task any more. */
const OVERDUE_MS = 120_000;
const SWEEP_EVERY_MS = 30_000;

/** Searches until the signal aborts, and sends a task for everything that is overdue. */
export async function sweepOverdue(
  { tasks, emit }: { tasks: TaskSender; emit: Emit },
  { what, find }: SweepOptions,
  signal: AbortSignal,
): Promise<void> {
  do {
    try {
      const overdue = await find(new Date(clock.now() - OVERDUE_MS).toISOString());
      const sent = await Promise.allSettled(overdue.map((task) => tasks.send(task, {}, signal)));
      const failed = sent.find((one) => one.status === "rejected");
      if (failed) throw failed.reason;
    } catch (error) {
      const { code, message } = asProblem(error);
      emit({ kind: "service.failed", what: `looking for overdue ${what}`, failure: { code, cause: message } });
    }
  } while (await sleep(SWEEP_EVERY_MS, signal));
}
