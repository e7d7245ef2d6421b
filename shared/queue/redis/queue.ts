/** A sender that does the work itself while the broker takes none: slower, in one process, but nothing waits for the broker. */
import { asProblem, Problem } from "../../contract/problem.ts";
import type { Task } from "../../contract/task.ts";
import { type Backoff, slept } from "../../time.ts";
import { limit } from "../../concurrency/semaphore.ts";
import type { Perform, TaskFailure, TaskSender } from "../queue.ts";

type FallbackDeps = {
  /** `trouble` is why it takes nothing at the moment, as far as it is known. */
  broker: TaskSender & { trouble(): Problem | null };
  perform: Perform;
  backoff: Pick<Backoff, "task">;
  /** Told of every failed try. Must not throw. */
  onFailed: (failure: TaskFailure) => void;
};

/** A broker that is connected but did not confirm in time is left alone for so long; the last one repeats. */
const RESTS_MS = [5_000, 15_000, 30_000, 60_000];
/** A refusal that took this long was a deadline: whoever asks next would wait for it too. */
const SLOW_MS = 2_000;
/** A task that is not done after so many tries here, or would have to wait longer, is refused. */
const TRIES_HERE = 5;
const PATIENCE_MS = 60_000;
/** Retries for later that are looked after here at one time. */
const LATER = 1_000;
/** How often a waiting task looks whether the broker is back. */
const LOOK_MS = 1_000;
/** Tasks that others send while they are performed have places of their own, or all could wait for each other. */
const TIDYING = 4;

/**
 * Sends to the broker as long as it confirms, and back to it as soon as it does again. While it does not, `send` resolves when
 * the task has been performed here, at most `concurrency` at once, so whoever sends is held back to the speed of the work. It
 * rejects when the task could not be done in a minute or so: then it is not safe, and its sender sees it again (the cursor has
 * not moved).
 *
 * A retry of a delivery for later is not waited for, as its record in the store has the time of its next attempt: within a minute it
 * is done here or given to the broker, should that be back; one further away, or too many of them, are left to the search for overdue
 * deliveries, which costs at most two and a half minutes.
 */
export function fallbackQueue(deps: FallbackDeps, work: { concurrency: number }, signal: AbortSignal): TaskSender {
  const { perform, backoff, onFailed } = deps;
  const offer = offering(deps.broker);
  const tidying = limit(TIDYING);
  const working = limit(work.concurrency);
  let later = 0;

  return {
    async send(task, options = {}) {
      const { notBefore } = options;
      if ((await offer(task, notBefore)) === null) return;
      if (task.kind === "redeliver" && notBefore) return lookAfter(task, notBefore);
      await doneHere(task, notBefore);
    },
  };

  function lookAfter(task: Task, at: Date): void {
    if (later >= LATER || at.getTime() > Date.now() + PATIENCE_MS) return;
    later += 1;
    // What comes of it is said by `onFailed`; the record in the store stays due.
    const over = () => void (later -= 1);
    doneHere(task, at).then(over, over);
  }

  async function doneHere(whole: Task, notBefore: Date | undefined): Promise<void> {
    const patience = Date.now() + PATIENCE_MS;
    let left = { task: whole, at: notBefore ?? new Date() };
    for (let attempt = 1; ; attempt += 1) {
      if (await takenBack(left)) return;
      const next = await tried(left.task, attempt);
      if (next === null) return;
      const { task, at, problem } = next;
      if (attempt >= TRIES_HERE || at.getTime() > patience) throw problem;
      left = { task, at };
    }
  }

  /** Waits until the task is due. True when the broker has taken it meanwhile. */
  async function takenBack({ task, at }: { task: Task; at: Date }): Promise<boolean> {
    for (let ms = at.getTime() - Date.now(); ms > 0; ms = at.getTime() - Date.now()) {
      if (!(await slept(Math.min(ms, LOOK_MS), signal))) throw signal.reason;
      if ((await offer(task, at)) === null) return true;
    }
    return false;
  }

  /** One try; null when the task is done, else what is left of it, when to go on, and why. */
  async function tried(task: Task, attempt: number): Promise<{ task: Task; at: Date; problem: Problem } | null> {
    const leave = await (task.kind === "tidy" ? tidying : working).enter({ signal });
    try {
      const outcome = await perform(task, attempt, signal);
      if (outcome.kind === "done") return null;
      const problem = new Problem("queue", "The broker is away, and what is left of a task has to wait");
      return { task: outcome.task, at: outcome.at, problem };
    } catch (error) {
      if (signal.aborted) throw error;
      const problem = asProblem(error);
      const at = retryTime(problem, backoff.task(attempt));
      onFailed({ task, mailbox: task.mailbox, attempt, problem, retryAt: at });
      if (at === null) throw problem;
      return { task, at, problem };
    } finally {
      leave();
    }
  }
}

function retryTime({ retry }: Problem, wait: number): Date | null {
  if (retry === "never") return null;
  const own = new Date(Date.now() + wait);
  return retry instanceof Date && retry > own ? retry : own;
}

/** Offers a task to the broker; null when it is safe there, else why not, at once when that is known beforehand. */
function offering(broker: FallbackDeps["broker"]): (task: Task, notBefore?: Date) => Promise<Problem | null> {
  let resting: { since: number; until: number; why: Problem; times: number } | null = null;
  const refused = (why: Problem, asked: number) => {
    const now = performance.now();
    // Those that had to wait together count as one.
    if (resting && resting.until !== Infinity && resting.since > asked) return;
    const times = (resting?.times ?? 0) + 1;
    const rest = RESTS_MS[Math.min(times, RESTS_MS.length) - 1] ?? 0;
    resting = now - asked >= SLOW_MS ? { since: now, until: now + rest, why, times } : null;
  };
  return async function offer(task, notBefore) {
    const trouble = broker.trouble();
    if (trouble) return trouble;
    const asked = performance.now();
    if (resting && asked < resting.until) return resting.why;
    // While this one tries, the others do not.
    if (resting) resting = { ...resting, until: Infinity };
    try {
      await broker.send(task, notBefore ? { notBefore } : {});
      resting = null;
      return null;
    } catch (error) {
      const why = asProblem(error);
      refused(why, asked);
      return why;
    }
  };
}
