/**
 * Takes tasks from Redis: claims them for a short time, renews the claims while it works, and finishes each in one
 * step.
 */
import { onAbort } from "../../concurrency/abort.ts";
import { type Wakeup, wakeup } from "../../concurrency/wakeup.ts";
import { asProblem, Problem } from "../../contract/problem.ts";
import { clock, jitter, sleep, withTimeout } from "../../time.ts";
import type { HandOver } from "../failover.ts";
import { type TaskResult, tryTask, type TryTaskDeps } from "../perform.ts";
import type { RecentWaits } from "../recent-waits.ts";
import { POISON_REASON } from "./scripts.ts";
import type { ClaimedTask, ClaimReply, PoisonedTask, RedisTasks } from "./tasks.ts";

export type ConsumerDeps = Omit<TryTaskDeps, "perform"> & {
  tasks: RedisTasks;
  /**
   * Calls `wake` whenever a task may have become due for any process, or for the one with this name. Returns the
   * function that ends that.
   */
  onWake: (wake: () => void, own: string | undefined) => () => void;
  /** Called once when Redis does not answer, and with null once it answers again. Must not throw. */
  onTrouble: (why: Problem | null) => void;
  waits: Pick<RecentWaits, "record">;
  claimMs: number;
  /** How long a shutdown waits for tasks in flight. */
  graceMs: number;
};

export type ConsumeOptions = {
  perform: TryTaskDeps["perform"];
  concurrency: number;
  handOver?: HandOver | undefined;
  /** The name by which tasks may prefer this process. */
  own?: string | undefined;
};

/** A task that this process performs. `stop` aborts it: the process stops, or the claim was lost. */
type InFlight = { held: ClaimedTask; stop: AbortController; ended: Promise<void> };

/** `writesEnd` aborts when nothing may be written any more. */
type Work = ConsumeOptions & { inFlight: Set<InFlight>; wakeups: Wakeup; trouble: Trouble; writesEnd: AbortSignal };

/** Reports once that Redis does not answer, and once that it answers again. */
type Trouble = { begin(error: unknown): void; end(): void };

/** The message that wakes this process may get lost, so it also asks Redis at this interval. */
const SAFETY_POLL_MS = 5_000;
/** How often to check whether tasks can be handed over again. */
const HAND_OVER_POLL_MS = 1_000;
const CLAIM_RETRY_MS = 1_000;
/** An outcome that could not be written is written again after this time. */
const WRITE_RETRY_MS = 2_000;
/** How many tasks are handed over at the same time. */
const HAND_OVER_CONCURRENCY = 64;

/**
 * Takes and performs tasks until the signal aborts. Then it waits for those in flight, and gives back those that did
 * not end in time.
 */
export async function consume(deps: ConsumerDeps, options: ConsumeOptions, signal: AbortSignal): Promise<void> {
  const wakeups = wakeup();
  const inFlight = new Set<InFlight>();
  const writesEnd = new AbortController();
  const trouble = troubleReporter(deps.onTrouble);
  const work: Work = { ...options, inFlight, wakeups, trouble, writesEnd: writesEnd.signal };
  const stopListening = deps.onWake(wakeups.trigger, options.own);
  const renewing = renewClaims(deps, inFlight, writesEnd.signal);
  using _ = onAbort(signal, () => {
    for (const { stop } of inFlight) stop.abort(signal.reason);
  });
  try {
    await claimUntilAborted(deps, work, signal);
    await waitForInFlight(inFlight, deps.graceMs);
  } finally {
    stopListening();
    const unfinished = [...inFlight];
    writesEnd.abort();
    await renewing;
    // If Redis is away, the claims end by themselves.
    await Promise.allSettled(unfinished.map(({ held }) => deps.tasks.finish(held, { kind: "released" })));
  }
}

async function claimUntilAborted(deps: ConsumerDeps, work: Work, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      const handOver = work.handOver?.isOpen() ? work.handOver : undefined;
      const reply = await (handOver ? claimAny(deps.tasks, work) : claimDue(deps.tasks, work));
      // Without room for a task, Redis was not asked.
      if (reply !== NOTHING) work.trouble.end();
      for (const poisoned of reply.poisoned) reportPoisoned(deps, poisoned);
      for (const held of reply.tasks) start(deps, work, held, { handOver, signal });
      await work.wakeups.wait(waitMs(reply, work), signal);
    } catch (error) {
      work.trouble.begin(error);
      await sleep(jitter(CLAIM_RETRY_MS), signal);
    }
  }
}

function troubleReporter(onTrouble: ConsumerDeps["onTrouble"]): Trouble {
  let isTrouble = false;
  return {
    begin(error) {
      if (!isTrouble) onTrouble(asProblem(error));
      isTrouble = true;
    },
    end() {
      if (isTrouble) onTrouble(null);
      isTrouble = false;
    },
  };
}

const NOTHING: ClaimReply = { tasks: [], poisoned: [], waitMs: undefined };

/** Claims as many due tasks as there is room for. */
async function claimDue(tasks: RedisTasks, { concurrency, inFlight, own }: Work): Promise<ClaimReply> {
  const wanted = concurrency - inFlight.size;
  if (wanted <= 0) return NOTHING;
  const perLane = Math.max(1, Math.floor(concurrency / 4));
  const running = new Map<string, number>();
  for (const { held } of inFlight) running.set(held.lane, (running.get(held.lane) ?? 0) + 1);
  return tasks.claim({ wanted, perLane, running, own });
}

/** Claims tasks to hand over, whatever their time and their lane. */
async function claimAny(tasks: RedisTasks, { inFlight, own }: Work): Promise<ClaimReply> {
  const wanted = HAND_OVER_CONCURRENCY - inFlight.size;
  if (wanted <= 0) return NOTHING;
  const due = await tasks.claim({ wanted, perLane: wanted, running: new Map(), own });
  // Without a time to wait for, there is no other task.
  if (due.waitMs === undefined || due.tasks.length === wanted) return due;
  const delayed = await tasks.claimDelayed(wanted - due.tasks.length);
  return { ...due, tasks: [...due.tasks, ...delayed.tasks] };
}

function waitMs(reply: ClaimReply, { handOver }: Work): number {
  const longestMs = handOver && !handOver.isOpen() ? HAND_OVER_POLL_MS : SAFETY_POLL_MS;
  return Math.min(reply.waitMs ?? longestMs, longestMs);
}

function start(
  deps: ConsumerDeps,
  work: Work,
  held: ClaimedTask,
  { handOver, signal }: { handOver: HandOver | undefined; signal: AbortSignal },
): void {
  const stop = new AbortController();
  if (signal.aborted) stop.abort(signal.reason);
  const trying = handOver ? handOverTask(handOver, held, stop.signal) : performTask(deps, work, held, stop.signal);
  const ended = trying
    .then((result) => writeResult(deps, work, held, result))
    .finally(() => {
      work.inFlight.delete(one);
      work.wakeups.trigger();
    });
  const one = { held, stop, ended };
  work.inFlight.add(one);
}

function performTask(
  deps: ConsumerDeps,
  { perform }: Work,
  held: ClaimedTask,
  signal: AbortSignal,
): Promise<TaskResult> {
  deps.waits.record(held.dueAt);
  return tryTask({ ...deps, perform }, held, signal);
}

/** A task that the broker does not accept stays here. The broker's connection reports the reason. */
async function handOverTask(
  { send }: HandOver,
  { json, attempts, dueAt }: ClaimedTask,
  signal: AbortSignal,
): Promise<TaskResult> {
  try {
    await send(json, { notBefore: new Date(dueAt), attempts });
    return { kind: "done" };
  } catch {
    await sleep(HAND_OVER_POLL_MS, signal);
    return { kind: "released" };
  }
}

/**
 * Writes the outcome of the task. Until it is written, this process keeps the task, so that nobody performs it again.
 */
async function writeResult(
  { tasks, onFailed }: ConsumerDeps,
  { trouble, writesEnd }: Work,
  held: ClaimedTask,
  result: TaskResult,
): Promise<void> {
  for (let isReported = false; !writesEnd.aborted; isReported = true) {
    try {
      await tasks.finish(held, result);
      return trouble.end();
    } catch (error) {
      trouble.begin(error);
      const { lane: mailbox, attempts: attempt } = held;
      const retryAt = new Date(clock.now() + WRITE_RETRY_MS);
      if (!isReported) onFailed({ task: null, mailbox, attempt, problem: asProblem(error), retryAt });
      await sleep(WRITE_RETRY_MS, writesEnd);
    }
  }
}

/**
 * Renews the claims of the tasks in flight. A failed renewal is repeated with the next one. A lost claim aborts its
 * task.
 */
async function renewClaims(
  { tasks, claimMs }: ConsumerDeps,
  inFlight: ReadonlySet<InFlight>,
  signal: AbortSignal,
): Promise<void> {
  while (await sleep(claimMs / 3, signal)) {
    if (inFlight.size === 0) continue;
    const lost = await tasks.renew([...inFlight].map(({ held }) => held)).catch((): ClaimedTask[] => []);
    for (const { held, stop } of inFlight) if (lost.includes(held)) stop.abort(claimLost());
  }
}

function claimLost(): DOMException {
  return new DOMException("The claim on this task ended: another process may perform it", "AbortError");
}

function reportPoisoned({ onFailed }: ConsumerDeps, { lane, task, attempts }: PoisonedTask): void {
  const problem = new Problem("internal", POISON_REASON, { retry: "never" });
  onFailed({ task: task instanceof Problem ? null : task, mailbox: lane, attempt: attempts, problem, retryAt: null });
}

/** Tasks that do not end in time are given back and performed again. Their late outcomes are ignored. */
async function waitForInFlight(inFlight: ReadonlySet<InFlight>, graceMs: number): Promise<void> {
  const all = Promise.allSettled([...inFlight].map(({ ended }) => ended));
  await withTimeout(graceMs, "Finishing the tasks in flight", all).catch((error: unknown) => {
    if (!(error instanceof Problem)) throw error;
  });
}
