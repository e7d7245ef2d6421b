/** The embedded queue: tasks are rows of the store's SQLite file, performed in this process, durable against kill -9. */
import { asProblem, Problem } from "../../contract/problem.ts";
import type { TaskOutcome } from "../../contract/task.ts";
import type { Database } from "../../store/sqlite/database.ts";
import { type Backoff, following, slept, within } from "../../time.ts";
import { type Bell, bell } from "../bell.ts";
import { lanes } from "./lanes.ts";
import type { Perform, TaskFailure, TaskSender, TaskSource } from "../queue.ts";
import { type Row, taskRows, type TaskRows } from "./rows.ts";

type Deps = {
  /** The store's, which is closed after `run` has resolved. */
  database: Database;
  backoff: Backoff;
  /** Told of every failed try. Must not throw. */
  onFailed: (failure: TaskFailure) => void;
  /** How long a shutdown waits for tasks in flight, 10 s if not given. */
  graceMs?: number;
};

export type InlineQueue = TaskSender & TaskSource;

const GRACE_MS = 10_000;
/** A task that cannot be read, or an outcome that cannot be written, is looked at again after this. */
const UNREADABLE_MS = 3_600_000;
const UNWRITTEN_MS = 5_000;

/**
 * The queue in the store's database. `send` resolves after the commit. A running task keeps its row until it is done, so a
 * crash makes it due again. Failed ones wait on `backoff.task`, or until the Problem's own time; a Problem that says never
 * drops the task. The order within a lane is that of due times; lanes take turns.
 */
export function inlineQueue(deps: Deps): InlineQueue {
  const rows = taskRows(deps.database);
  const wake = bell();
  const running = new Map<number, string>();
  let taken = false;
  return {
    async send(task, options = {}) {
      await rows.add(task, options.notBefore?.getTime() ?? 0);
      wake.ring();
    },
    async run(perform, { concurrency }, signal) {
      if (taken) throw new Problem("internal", "The embedded queue is run already", { retry: "never" });
      taken = true;
      try {
        await run({ ...deps, rows, wake, running }, { perform, concurrency }, signal);
      } finally {
        taken = false;
      }
    },
    async depth() {
      const { due, later } = rows.count(Date.now());
      return { ready: Math.max(0, due - running.size), delayed: later, running: running.size };
    },
  };
}

type Running = Deps & { rows: TaskRows; wake: Bell; running: Map<number, string> };
type Work = { perform: Perform; concurrency: number };

async function run(deps: Running, work: Work, signal: AbortSignal): Promise<void> {
  const { rows, wake, running } = deps;
  const turns = lanes({ rows, running, perLane: Math.max(1, Math.floor(work.concurrency / 4)) });
  const inFlight = new Set<Promise<void>>();
  const faults: unknown[] = [];
  const end = new AbortController();
  const start = (row: Row) => {
    running.set(row.id, row.lane);
    const one = performed(deps, work.perform, row, { signal, end: end.signal })
      .catch((error: unknown) => void faults.push(error))
      .finally(() => {
        running.delete(row.id);
        inFlight.delete(one);
        turns.offer(row.lane);
        wake.ring();
      });
    inFlight.add(one);
  };
  try {
    while (!signal.aborted) {
      if (faults.length > 0) throw faults[0];
      const now = Date.now();
      turns.look(now);
      for (let row = next(); row !== undefined; row = next()) start(row);
      await wake.heard(rows.nextDue(now), signal);
    }
  } finally {
    await finished(inFlight, deps.graceMs ?? GRACE_MS);
    end.abort();
    for (const id of running.keys()) running.delete(id);
  }

  function next(): Row | undefined {
    return inFlight.size < work.concurrency && !signal.aborted ? turns.next(Date.now()) : undefined;
  }
}

/** What is not finished in time stays in the table, to be done again; its late outcome is ignored. */
async function finished(inFlight: Set<Promise<void>>, graceMs: number): Promise<void> {
  const all = Promise.allSettled(inFlight);
  await within(graceMs, "Finishing the tasks in flight", all).catch((error: unknown) => {
    if (!(error instanceof Problem)) throw error;
  });
}

type Until = { signal: AbortSignal; end: AbortSignal };

/** Does one task and writes what became of it. `end` aborts when nothing may be written any more. */
async function performed(deps: Running, perform: Perform, row: Row, until: Until): Promise<void> {
  const write = await outcomeOf(deps, perform, row, until.signal);
  let written = false;
  while (!written && !until.end.aborted) {
    try {
      await write();
      written = true;
    } catch (error) {
      // Performing it again because its outcome cannot be written would be a loop of deliveries: it waits, still running.
      const retryAt = new Date(Date.now() + UNWRITTEN_MS);
      deps.onFailed({ task: null, mailbox: row.lane, attempt: row.attempt + 1, problem: asProblem(error), retryAt });
      if (!(await slept(UNWRITTEN_MS, until.signal))) return;
    }
  }
}

/** Performs the task and returns what to write. */
async function outcomeOf(deps: Running, perform: Perform, row: Row, signal: AbortSignal): Promise<() => Promise<void>> {
  const { rows } = deps;
  const attempt = row.attempt + 1;
  const task = row.read();
  if (task instanceof Problem) {
    const retryAt = new Date(Date.now() + UNREADABLE_MS);
    deps.onFailed({ task: null, mailbox: row.lane, attempt, problem: task, retryAt });
    return () => rows.putBack(row.id, { dueAt: retryAt.getTime(), attempt: row.attempt });
  }
  const own = following(signal);
  try {
    const outcome: TaskOutcome = await perform(task, attempt, own.signal);
    if (outcome.kind === "done") return () => rows.drop(row.id);
    const dueAt = outcome.at.getTime();
    return () => rows.putBack(row.id, { dueAt, attempt, task: outcome.task });
  } catch (error) {
    // Whatever a task throws while it is being stopped, it is no attempt: its row stays as it was.
    if (signal.aborted) return async () => undefined;
    const problem = asProblem(error);
    const retryAt = again(deps.backoff, problem, attempt);
    deps.onFailed({ task, mailbox: row.lane, attempt, problem, retryAt });
    return retryAt === null
      ? () => rows.drop(row.id)
      : () => rows.putBack(row.id, { dueAt: retryAt.getTime(), attempt });
  } finally {
    own.over();
  }
}

function again(backoff: Backoff, problem: Problem, attempt: number): Date | null {
  if (problem.retry === "never") return null;
  const own = new Date(Date.now() + backoff.task(attempt));
  return problem.retry instanceof Date && problem.retry > own ? problem.retry : own;
}
