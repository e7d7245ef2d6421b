/** How tasks travel from who sees work to who does it, at least once. */
import type { Problem } from "../contract/problem.ts";
import type { Task, TaskOutcome } from "../contract/task.ts";

export interface TaskSender {
  /** Resolves once the task is safe: a crash of any process after that does not lose it. `notBefore` delays it. */
  send(task: Task, options?: { notBefore?: Date }): Promise<void>;
}

/** Does one task. `attempt` counts from 1 over all tries. A thrown Problem says by its `retry` whether to try again. */
export type Perform = (task: Task, attempt: number, signal: AbortSignal) => Promise<TaskOutcome>;

/** `task` is null when a newer version wrote it; `retryAt` is null when the task is given up. */
export type TaskFailure = {
  task: Task | null;
  mailbox: string;
  attempt: number;
  problem: Problem;
  retryAt: Date | null;
};

/**
 * Waiting tasks, due or not, and those performed now. Where there is a broker, also how many consume from it, of all nodes, and how many
 * tasks nobody tries any more, and the longest that a task taken by this process in the last minute had been ready.
 */
export type TaskDepth = {
  ready: number;
  delayed: number;
  running: number;
  consumers?: number;
  parked?: number;
  waitedSeconds?: number;
};

/**
 * A task that nobody tries any more. `task` is null when this version cannot read it; `reason` and `parkedAt` are null when the broker
 * parked it, because it was handed out too often without an answer.
 */
export type ParkedTask = {
  id: string;
  task: Task | null;
  tries: number;
  reason: string | null;
  parkedAt: string | null;
};

export interface ParkedTasks {
  /** The first parked tasks, at most `limit`; they stay parked. */
  parked(limit: number): Promise<ParkedTask[]>;
  /** Makes those with these ids, or all that are parked now, due again as if they were new. Returns how many. */
  replayParked(ids?: readonly string[]): Promise<number>;
  /** Forgets those with these ids for good. Returns how many. */
  dropParked(ids: readonly string[]): Promise<number>;
}

export interface TaskSource {
  /**
   * Takes tasks and performs them until the signal aborts, then waits for those in flight (whose signal aborts too) and puts
   * back what was not finished; a shutdown never counts as an attempt. At most `concurrency` at once, and at most a quarter of
   * that for one `lane` (its mailbox), so that one bad mailbox delays no other.
   */
  run(perform: Perform, options: { concurrency: number }, signal: AbortSignal): Promise<void>;
  depth(): Promise<TaskDepth>;
}
