/** Handles one task from the broker, from its delivery to its acknowledgement. */
import { Problem } from "../../contract/problem.ts";
import { clock, sleep } from "../../time.ts";
import { tryTask, type TryTaskDeps } from "../perform.ts";
import type { RecentWaits } from "../recent-waits.ts";
import { taskAnswers, type TaskAnswersDeps, type UnackedMessage } from "./answers.ts";
import type { LaneSlots } from "./concurrency.ts";
import { suspectSlots } from "./suspects.ts";

export type TaskHandlerDeps = TaskAnswersDeps & {
  backoff: TryTaskDeps["backoff"];
  isNodeFault?: TryTaskDeps["isNodeFault"];
  /** After this many tries a task that still fails is parked. */
  maxAttempts: number;
  waits: Pick<RecentWaits, "record">;
};

/** `signal` starts the shutdown. Nothing is written after `writesEnd`. */
type StopSignals = { signal: AbortSignal; writesEnd: AbortSignal };

/** The process itself waits for tasks that are due within this time. */
const SHORT_WAIT_MS = 250;
/** In this time the other suspects that were delivered together with this one are delayed. */
const SUSPECT_WAIT_MS = 250;

/**
 * Returns the function that handles one task. It never rejects. The broker confirms a follow-up (a later try, the rest
 * of a task, a parked copy) before the task itself is acknowledged. A crash repeats a task, but never loses it.
 */
export function taskHandler(
  deps: TaskHandlerDeps,
  perform: TryTaskDeps["perform"],
  slots: LaneSlots,
  { signal, writesEnd }: StopSignals,
) {
  const { layout } = deps;
  const answers = taskAnswers(deps, writesEnd);
  const suspects = suspectSlots();
  // Harmless tasks come back too, when a connection breaks, but not so often.
  const suspectAfter = layout.deliveryLimit / 2;

  return async function handle(held: UnackedMessage): Promise<void> {
    const { task, taskHeaders } = held;
    if (task instanceof Problem) return answers.park(held, task);
    if (taskHeaders.returns >= layout.deliveryLimit) return answers.park(held, poisonProblem(taskHeaders.returns));
    if (layout.queueType === "classic" && held.redelivered) return answers.countRedelivery(held);
    const wait = Date.parse(taskHeaders.notBefore) - clock.now();
    if (wait > SHORT_WAIT_MS) return answers.delay(held, wait);
    if (!(await sleepUntil(Date.parse(taskHeaders.notBefore), signal))) return held.requeue();
    return taskHeaders.returns < suspectAfter ? performInLane(held) : performSuspect(held);
  };

  async function performSuspect(held: UnackedMessage): Promise<void> {
    const release = suspects.tryAcquire();
    if (release === undefined) return answers.delayForLane(held);
    try {
      if (await sleep(SUSPECT_WAIT_MS, signal)) await performInLane(held);
      else held.requeue();
    } finally {
      release();
    }
  }

  async function performInLane(held: UnackedMessage): Promise<void> {
    if (held.isOwn && !slots.hasRoom(held.lane)) return answers.offerToAll(held);
    const acquiring = slots.acquire(held.lane);
    if (acquiring === undefined) return answers.delayForLane(held);
    const turn = await acquiring;
    if (turn === "closed") return held.requeue();
    if (turn === "stuck") return answers.offerToAll(held);
    try {
      await performTask(held);
    } finally {
      slots.release(held.lane);
    }
  }

  async function performTask(held: UnackedMessage): Promise<void> {
    deps.waits.record(held.readyAt);
    const { task, lane, taskHeaders } = held;
    const result = await tryTask({ ...deps, perform }, { task, lane, attempts: taskHeaders.tries }, signal);
    if (result.kind === "done") return held.ack();
    if (result.kind === "released") return held.requeue();
    return result.kind === "retry" ? answers.retry(held, result) : answers.moveToParked(held, result);
  }
}

/** False if the signal aborted first. Timers may end a millisecond early, so the time is looked at again. */
async function sleepUntil(time: number, signal: AbortSignal): Promise<boolean> {
  for (let wait = time - clock.now(); wait > 0; wait = time - clock.now())
    if (!(await sleep(wait, signal))) return false;
  return true;
}

function poisonProblem(returns: number): Problem {
  return new Problem("internal", `Handed out ${returns} times without an answer: its workers may have died of it`, {
    retry: "never",
  });
}
