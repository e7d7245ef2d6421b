/**
 * How tasks travel from the node that creates them to the one that performs them, at least once. README.md in this
 * folder says what every queue promises.
 */
import type { Problem } from "../contract/problem.ts";
import type { Task, TaskOutcome } from "../contract/task.ts";

export interface TaskSender {
  /**
   * Resolves once the task is durable: after that no crash of a process loses it. It performs nothing, and it does not
   * wait for `notBefore`, the time before which the task is not performed. It resolves within seconds, or it throws:
   * `queue`, `store` or `timeout` if the task could not be stored, or the signal's reason. After a throw the task may
   * be stored all the same, because the answer may be lost. If the caller sends it again, it may be performed twice.
   */
  send(task: Task, options?: { notBefore?: Date }, signal?: AbortSignal): Promise<void>;
}

/**
 * The task was not started, because enough tasks wait for the same answer already, or because its endpoint is paused.
 * The queue gives it out again at `at`, and counts no try.
 */
export type Later = { kind: "later"; at: Date };

/** Performs one task. `attempt` counts all tries from 1. The `retry` of a thrown Problem says whether to try again. */
export type PerformTask = (task: Task, attempt: number, signal: AbortSignal) => Promise<TaskOutcome | Later>;

/** `task` is null if a newer version wrote it. `retryAt` is null if the task is parked. */
export type TaskFailure = {
  task: Task | null;
  mailbox: string;
  attempt: number;
  problem: Problem;
  retryAt: Date | null;
};

/**
 * Waiting tasks, due or not, running and parked tasks, and the longest wait of a due task that this process started in
 * the last minute. With a broker, also the number of its consumers over all nodes.
 */
export type TaskDepth = {
  ready: number;
  delayed: number;
  running: number;
  consumers?: number;
  parked?: number;
  longestWaitSeconds?: number;
};

/**
 * A task that failed for good and waits for a person. `task` is null if this version cannot read it. `reason` and
 * `parkedAt` are null if the broker parked it, because it was delivered too often without an answer. `tries` counts the
 * tries.
 */
export type ParkedTask = {
  id: string;
  task: Task | null;
  tries: number;
  reason: string | null;
  parkedAt: string | null;
};

/** Every queue parks a task that failed for good. No queue deletes one by itself. */
export interface ParkedTasks {
  /**
   * The first parked tasks, at most `limit`. They stay parked. With a prefix only those of mailboxes whose ids begin so;
   * RabbitMQ looks for them among the first 10,000.
   */
  parked(limit: number, mailboxPrefix?: string): Promise<ParkedTask[]>;
  /** Makes parked tasks due again as if they were new: those with these ids, or all. Returns how many. */
  replayParked(ids?: readonly string[]): Promise<number>;
  /** Deletes those with these ids for good. Returns how many. */
  dropParked(ids: readonly string[]): Promise<number>;
}

export interface TaskSource {
  /**
   * Takes tasks and performs them until the signal aborts. Then it aborts the tasks in flight, waits for them, and puts
   * back those that did not end; a shutdown never counts as a try. It performs at most `concurrency` at once, and at
   * most a quarter of that for one `lane` (a mailbox), so that one mailbox does not delay the others. Lanes take turns.
   * Within a lane the order is by due time.
   */
  run(perform: PerformTask, options: { concurrency: number }, signal: AbortSignal): Promise<void>;
  depth(): Promise<TaskDepth>;
}

/** What every queue offers. */
export interface TaskQueue extends TaskSender, TaskSource, ParkedTasks {}
