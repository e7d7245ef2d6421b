/** Performs one try of a task, and decides what the queue stores about it. The rules are the same for every queue. */
import { childSignal } from "../concurrency/abort.ts";
import { asProblem, Problem } from "../contract/problem.ts";
import type { Task } from "../contract/task.ts";
import { type Backoff, clock, jitter } from "../time.ts";
import type { PerformTask, TaskFailure } from "./queue.ts";

/**
 * After this many tries a task that still fails is parked: after more than three days, because the schedule of tasks
 * ends in steps of five minutes.
 */
export const MAX_ATTEMPTS = 1_000;

/**
 * A task that this version cannot read is tried once a minute for an hour. A node that can read it may start meanwhile.
 */
const UNREADABLE_RETRY_MS = 60_000;
const MAX_UNREADABLE_ATTEMPTS = 60;

/** `attempts` counts the tries so far. `task` is a Problem if this version cannot read it. */
export type TaskToTry = { task: Task | Problem; lane: string; attempts: number };

/**
 * What the queue stores: `retry` puts the task back for later, with another `task` if one is given; `released` puts it
 * back unchanged, because a try that a stop cut off does not count.
 */
export type TaskResult =
  | { kind: "done" }
  | { kind: "retry"; at: Date; attempts: number; task?: Task }
  | { kind: "parked"; attempts: number; problem: Problem }
  | { kind: "released" };

export type TryTaskDeps = {
  perform: PerformTask;
  backoff: Pick<Backoff, "task">;
  maxAttempts: number;
  /** Called after every failed try. Must not throw. */
  onFailed: (failure: TaskFailure) => void;
  /** True for a failure that another node might not have. Must not throw. */
  isNodeFault?: ((problem: Problem) => Promise<boolean>) | undefined;
};

/**
 * Performs the task once. A Problem with retry `never`, and the last of all tries, parks it. After any other failure it
 * is put back until the next time of `backoff.task`, or until the Problem's own time. If the task cannot be read, that
 * is a failed try too. A failure that is the node's fault is no try: it gives the task back for another node. A wrong
 * setting (`config`) does not park a task at once either.
 */
export async function tryTask(
  deps: TryTaskDeps,
  { task, lane, attempts }: TaskToTry,
  signal: AbortSignal,
): Promise<TaskResult> {
  const attempt = attempts + 1;
  using taskSignal = childSignal(signal);
  try {
    if (task instanceof Problem) throw task;
    const outcome = await deps.perform(task, attempt, taskSignal.signal);
    if (outcome.kind === "done") return outcome;
    if (outcome.kind === "later") return { kind: "retry", at: outcome.at, attempts };
    return { kind: "retry", at: outcome.at, attempts: attempt, task: outcome.task };
  } catch (error) {
    // A failure while the process stops does not count as a try.
    if (signal.aborted) return { kind: "released" };
    const problem = asProblem(error);
    const isNodeFault = (await deps.isNodeFault?.(problem)) ?? false;
    return isNodeFault
      ? giveBack(deps, { task, lane, attempts }, problem)
      : toFailedResult(deps, { task, lane, attempt }, problem);
  }
}

/** As it was, for a moment later: until then the node has stopped taking tasks, or it is well again. */
function giveBack(
  { backoff, onFailed }: TryTaskDeps,
  { task, lane, attempts }: TaskToTry,
  problem: Problem,
): TaskResult {
  const retryAt = new Date(clock.now() + backoff.task(2));
  onFailed({ task: task instanceof Problem ? null : task, mailbox: lane, attempt: attempts + 1, problem, retryAt });
  return { kind: "retry", at: retryAt, attempts };
}

function toFailedResult(
  { backoff, maxAttempts, onFailed }: TryTaskDeps,
  { task, lane, attempt }: { task: Task | Problem; lane: string; attempt: number },
  problem: Problem,
): TaskResult {
  const isUnreadable = task instanceof Problem;
  const isForGood = problem.retry === "never" && problem.code !== "config";
  const givenUp = isForGood || attempt >= (isUnreadable ? MAX_UNREADABLE_ATTEMPTS : maxAttempts);
  const waitMs = isUnreadable ? jitter(UNREADABLE_RETRY_MS) : backoff.task(attempt);
  const retryAt = givenUp ? null : retryTime(problem, waitMs);
  onFailed({ task: isUnreadable ? null : task, mailbox: lane, attempt, problem, retryAt });
  return retryAt === null
    ? { kind: "parked", attempts: attempt, problem }
    : { kind: "retry", at: retryAt, attempts: attempt };
}

function retryTime({ retry }: Problem, waitMs: number): Date {
  const scheduled = new Date(clock.now() + waitMs);
  return retry instanceof Date && retry > scheduled ? retry : scheduled;
}
