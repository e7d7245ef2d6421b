/** What happens to one task from the broker, from the moment it is handed out to its acknowledgement. */
import { asProblem, Problem } from "../../contract/problem.ts";
import type { Task } from "../../contract/task.ts";
import { type Backoff, slept } from "../../time.ts";
import type { Perform, TaskFailure } from "../queue.ts";
import type { Waits } from "../waits.ts";
import { type Arrival, copied, type Outgoing, outgoing, type Travel } from "./message.ts";
import type { Places } from "./concurrency.ts";
import type { Publisher } from "./publisher.ts";
import { delayQueue, type Layout, nextDelay, parkedQueue, turnQueue } from "./topology.ts";

/** A task in our hands. After its connection has ended, and after the first answer, answers do nothing. */
export type Held = Arrival & { gone: AbortSignal; done(): void; giveBack(): void };

export type HandlingDeps = {
  layout: Layout;
  publisher: Publisher;
  backoff: Pick<Backoff, "task">;
  /** Tries after which a task that still fails is parked. */
  triesMax: number;
  waits: Pick<Waits, "taken">;
  /** Told of every failed try. Must not throw. */
  onFailed: (failure: TaskFailure) => void;
};

/** `signal` begins the shutdown; after `end` nothing is written any more. */
type Until = { signal: AbortSignal; end: AbortSignal };

/** So short a wait is waited for here. */
const SHORT_MS = 250;
/** When to try again to write down what became of a task. */
const UNWRITTEN_MS = 5_000;
/** Other suspects handed out together with this one get out of its way meanwhile. */
const APART_MS = 250;

/**
 * Handles tasks one by one, never rejecting. A follow-up (a later try, what is left to do, a parked copy) is confirmed by the
 * broker before the task itself is acknowledged, so a crash repeats a task but never loses it.
 */
export function handling(deps: HandlingDeps, perform: Perform, room: Places, until: Until) {
  const { layout, publisher, onFailed } = deps;
  const { signal, end } = until;
  // Connections that break make honest tasks come back too, but not so often.
  const suspectAfter = layout.deliveryLimit / 2;
  let suspects = 0;
  let trusted = 1;

  return async function handle(held: Held): Promise<void> {
    const { task, travel } = held;
    if (task instanceof Problem) return park(held, task);
    if (travel.returns >= layout.deliveryLimit) return park(held, deadly(travel.returns));
    if (layout.queueType === "classic" && held.redelivered) return recount(held);
    const wait = Date.parse(travel.notBefore) - Date.now();
    if (wait > SHORT_MS) return handOver(held, moved(held, routeFor(layout, wait), {}));
    if (wait > 0 && !(await slept(wait, signal))) return held.giveBack();
    if (travel.returns < suspectAfter) return inTurn(held, task);
    return apart(held, task);
  };

  /**
   * Suspects go one at a time at first, so that the task its workers die of takes no other along to the parked queue; with each
   * one that does no harm, more of them may go together.
   */
  async function apart(held: Held, task: Task): Promise<void> {
    if (suspects >= trusted) return bounce(held);
    suspects += 1;
    try {
      if (await slept(APART_MS, signal)) await inTurn(held, task);
      else held.giveBack();
    } finally {
      suspects -= 1;
      trusted *= 2;
    }
  }

  async function inTurn(held: Held, task: Task): Promise<void> {
    const turn = room.enter(held.lane);
    if (turn === undefined) return bounce(held);
    if (!(await turn)) return held.giveBack();
    try {
      await performed(held, task);
    } finally {
      room.leave(held.lane);
    }
  }

  async function performed(held: Held, task: Task): Promise<void> {
    const attempt = held.travel.tries + 1;
    deps.waits.taken(held.readyAt);
    try {
      const outcome = await perform(task, attempt, signal);
      if (outcome.kind === "done") return held.done();
      await handOver(held, later(held, outcome.task, { attempt, at: outcome.at }));
    } catch (error) {
      // Whatever a task throws while it is being stopped, it is no attempt.
      if (signal.aborted) return held.giveBack();
      await failed(held, task, { attempt, problem: asProblem(error) });
    }
  }

  async function failed(held: Held, task: Task, { attempt, problem }: { attempt: number; problem: Problem }) {
    if (problem.retry === "never" || attempt >= deps.triesMax) return park(held, problem, attempt);
    const own = new Date(Date.now() + deps.backoff.task(attempt));
    const at = problem.retry instanceof Date && problem.retry > own ? problem.retry : own;
    onFailed({ task, mailbox: held.lane, attempt, problem, retryAt: at });
    return handOver(held, later(held, task, { attempt, at }));
  }

  function later(held: Held, task: Task, { attempt, at }: { attempt: number; at: Date }): Outgoing {
    const travel = { tries: attempt, notBefore: at.toISOString() };
    return outgoing(routeFor(layout, at.getTime() - Date.now()), task, travel, held.messageId);
  }

  function bounce(held: Held): Promise<void> {
    const { bounces } = held.travel;
    const ms = layout.turnsMs[Math.min(bounces, layout.turnsMs.length - 1)];
    const to = ms === undefined ? layout.queue : turnQueue(layout, ms);
    return handOver(held, moved(held, to, { bounces: bounces + 1 }));
  }

  /** A classic queue does not count how often it handed a task out: the copy does. */
  function recount(held: Held): Promise<void> {
    const returns = held.travel.returns + 1;
    return handOver(held, moved(held, layout.queue, { returns }));
  }

  function park(held: Held, problem: Problem, tries = held.travel.tries): Promise<void> {
    const task = held.task instanceof Problem ? null : held.task;
    onFailed({ task, mailbox: held.lane, attempt: tries, problem, retryAt: null });
    const reason = problem.message.slice(0, 1000);
    const headers = { tries, code: problem.code, reason, parkedAt: new Date().toISOString() };
    return handOver(held, copied(parkedQueue(layout), held, headers));
  }

  /** Publishes the follow-up, then acknowledges. While it cannot, the task stays in our hands instead of being done again. */
  async function handOver(held: Held, message: Outgoing): Promise<void> {
    const over = AbortSignal.any([held.gone, end]);
    while (!over.aborted) {
      try {
        await publisher.publish(message);
        return held.done();
      } catch (error) {
        if (over.aborted) return;
        const retryAt = new Date(Date.now() + UNWRITTEN_MS);
        const { tries } = held.travel;
        onFailed({ task: null, mailbox: held.lane, attempt: tries, problem: asProblem(error), retryAt });
      }
      await slept(UNWRITTEN_MS, over);
    }
  }
}

function moved(held: Held, to: string, changes: Partial<Travel>): Outgoing {
  return copied(to, held, { ...held.travel, ...changes });
}

/** The routing key for a task that has to wait this long. */
export function routeFor(layout: Layout, wait: number): string {
  return wait <= 0 ? layout.queue : delayQueue(layout, nextDelay(layout.delaysMs, wait));
}

function deadly(returns: number): Problem {
  return new Problem("internal", `Handed out ${returns} times without an answer: its workers may have died of it`, {
    retry: "never",
  });
}
