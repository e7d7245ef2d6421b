/**
 * The embedded queue. Tasks are rows of the store's SQLite file, performed in this process, durable against kill -9.
 */
import { type Wakeup, wakeup } from "../../concurrency/wakeup.ts";
import { asProblem, Problem } from "../../contract/problem.ts";
import type { Database } from "../../store/sqlite/database.ts";
import { type Backoff, clock, sleep, withTimeout } from "../../time.ts";
import { MAX_ATTEMPTS, type TaskResult, tryTask, type TryTaskDeps } from "../perform.ts";
import type { PerformTask, TaskFailure, TaskQueue } from "../queue.ts";
import { lanes } from "./lanes.ts";
import { type ParkedRows, parkedRows } from "./parked.ts";
import { type TaskRow, taskRows, type TaskRows } from "./rows.ts";

type SqliteQueueDeps = {
  /** The store's database. It must stay open until `run` has resolved. */
  database: Database;
  backoff: Pick<Backoff, "task">;
  /** Called after every failed try. Must not throw. */
  onFailed: (failure: TaskFailure) => void;
  /** True for a failure that is the node's, not the task's. Must not throw. */
  isNodeFault?: TryTaskDeps["isNodeFault"];
  /** After this many tries a task that still fails is parked. */
  maxAttempts?: number;
  /** How long a shutdown waits for tasks in flight; 10 s by default. */
  graceMs?: number;
};

const GRACE_MS = 10_000;
/** An outcome that could not be written is written again after this time. */
const WRITE_RETRY_MS = 5_000;
/**
 * The system clock may be set, and a timer cannot wait longer than 24 days. Checking every half minute costs nothing.
 */
const MAX_WAIT_MS = 30_000;
/** The time for the commit of a task. */
const SEND_TIMEOUT_MS = 10_000;

/**
 * The queue in the store's database. `send` resolves after the commit. A running task keeps its row until it is done,
 * so a crash makes it due again. The order within a lane is by due time. Lanes take turns.
 */
export function sqliteQueue(deps: SqliteQueueDeps): TaskQueue {
  const rows = taskRows(deps.database);
  const wakeups = wakeup();
  const parked = parkedRows(deps.database, () => wakeups.trigger());
  const running = new Map<number, string>();
  let isRunning = false;
  return {
    async send(task, options = {}, signal) {
      signal?.throwIfAborted();
      const added = rows.add(task, options.notBefore?.getTime() ?? 0).then(wakeups.trigger);
      await withTimeout(SEND_TIMEOUT_MS, "Writing a task to the store", added, signal);
    },
    async run(perform, { concurrency }, signal) {
      if (isRunning) throw new Problem("internal", "The embedded queue is already running", { retry: "never" });
      isRunning = true;
      try {
        await run({ ...deps, rows, parked, wakeups, running }, { perform, concurrency }, signal);
      } finally {
        isRunning = false;
      }
    },
    async depth() {
      const { due, later } = rows.count(clock.now());
      const ready = Math.max(0, due - running.size);
      return { ready, delayed: later, running: running.size, parked: parked.count() };
    },
    parked: parked.parked,
    replayParked: parked.replayParked,
    dropParked: parked.dropParked,
  };
}

type RunDeps = SqliteQueueDeps & {
  rows: TaskRows;
  parked: ParkedRows;
  wakeups: Wakeup;
  running: Map<number, string>;
};
type Work = { perform: PerformTask; concurrency: number };

async function run(deps: RunDeps, work: Work, signal: AbortSignal): Promise<void> {
  const { rows, wakeups, running, maxAttempts = MAX_ATTEMPTS } = deps;
  const tryDeps = { ...deps, perform: work.perform, maxAttempts };
  const dueLanes = lanes({ rows, running, perLane: Math.max(1, Math.floor(work.concurrency / 4)) });
  const inFlight = new Set<Promise<void>>();
  const failures: unknown[] = [];
  const stopWriting = new AbortController();
  const start = (row: TaskRow) => {
    running.set(row.id, row.lane);
    const performing = performRow(deps, tryDeps, row, { signal, writesEnd: stopWriting.signal })
      .catch((error: unknown) => void failures.push(error))
      .finally(() => {
        running.delete(row.id);
        inFlight.delete(performing);
        dueLanes.addLane(row.lane);
        wakeups.trigger();
      });
    inFlight.add(performing);
  };
  try {
    while (!signal.aborted) {
      if (failures.length > 0) throw failures[0];
      const now = clock.now();
      dueLanes.addDueLanes(now);
      for (let row = nextRow(); row !== undefined; row = nextRow()) start(row);
      await wakeups.wait(waitMs(rows.getNextDueAt(now)), signal);
    }
  } finally {
    await waitForInFlight(inFlight, deps.graceMs ?? GRACE_MS);
    stopWriting.abort();
    for (const id of running.keys()) running.delete(id);
  }

  function nextRow(): TaskRow | undefined {
    return inFlight.size < work.concurrency && !signal.aborted ? dueLanes.nextRow(clock.now()) : undefined;
  }
}

function waitMs(dueAt: number | undefined): number {
  return dueAt === undefined ? MAX_WAIT_MS : Math.min(MAX_WAIT_MS, Math.max(0, dueAt - clock.now()));
}

/** Tasks that do not end in time stay in the table and are performed again. Their late outcomes are ignored. */
async function waitForInFlight(inFlight: Set<Promise<void>>, graceMs: number): Promise<void> {
  const all = Promise.allSettled(inFlight);
  await withTimeout(graceMs, "Finishing the tasks in flight", all).catch((error: unknown) => {
    if (!(error instanceof Problem)) throw error;
  });
}

/** `signal` starts the shutdown. Nothing is written after `writesEnd`. */
type StopSignals = { signal: AbortSignal; writesEnd: AbortSignal };

/** Performs one task and writes its outcome. */
async function performRow(deps: RunDeps, tryDeps: TryTaskDeps, row: TaskRow, until: StopSignals): Promise<void> {
  const result = await tryTask(tryDeps, row, until.signal);
  while (!until.writesEnd.aborted) {
    try {
      return await writeResult(deps, row, result);
    } catch (error) {
      // If its outcome cannot be written, the task counts as running. Performing it again would deliver again and
      // again.
      const retryAt = new Date(clock.now() + WRITE_RETRY_MS);
      deps.onFailed({ task: null, mailbox: row.lane, attempt: row.attempts + 1, problem: asProblem(error), retryAt });
      if (!(await sleep(WRITE_RETRY_MS, until.signal))) return;
    }
  }
}

async function writeResult({ rows, parked }: RunDeps, { id }: TaskRow, result: TaskResult): Promise<void> {
  if (result.kind === "done") return rows.remove(id);
  if (result.kind === "parked") return parked.park(id, result);
  if (result.kind === "retry") return rows.putBack(id, { ...result, dueAt: result.at.getTime() });
}
