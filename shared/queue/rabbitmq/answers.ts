/**
 * The answers to the broker about a task. A follow-up message is published and confirmed first, then the task is
 * acknowledged.
 */
import { asProblem, Problem } from "../../contract/problem.ts";
import { clock, sleep } from "../../time.ts";
import type { TaskResult } from "../perform.ts";
import type { TaskFailure } from "../queue.ts";
import { type BrokerMessage, copyMessage, type OutboundMessage, taskMessage, type TaskHeaders } from "./message.ts";
import type { Publisher } from "./publisher.ts";
import { delayQueue, laneWaitQueue, type Layout, nextDelay, parkedQueue } from "./topology.ts";

/**
 * A task that this process has not acknowledged yet. Answers do nothing after the first one, and after the connection
 * has ended. `isOwn`: the task prefers this process.
 */
export type UnackedMessage = BrokerMessage & { isOwn: boolean; closed: AbortSignal; ack(): void; requeue(): void };

export type TaskAnswersDeps = {
  layout: Layout;
  publisher: Publisher;
  /** Called after every failed try, and when a follow-up cannot be published. Must not throw. */
  onFailed: (failure: TaskFailure) => void;
};

type Retry = Extract<TaskResult, { kind: "retry" }>;
type Parked = Extract<TaskResult, { kind: "parked" }>;

/** When a follow-up that the broker did not accept is published again. */
const PUBLISH_RETRY_MS = 5_000;
const MAX_REASON_LENGTH = 1_000;

/** The answers end when `writesEnd` aborts or the task's connection ends. Then the task goes back to the broker. */
export function taskAnswers({ layout, publisher, onFailed }: TaskAnswersDeps, writesEnd: AbortSignal) {
  /** While the follow-up cannot be published, the task stays unacknowledged, so that nobody performs it again. */
  async function publishThenAck(held: UnackedMessage, message: OutboundMessage): Promise<void> {
    const stopped = AbortSignal.any([held.closed, writesEnd]);
    while (!stopped.aborted) {
      try {
        await publisher.publish(message);
        return held.ack();
      } catch (error) {
        if (stopped.aborted) return;
        const retryAt = new Date(clock.now() + PUBLISH_RETRY_MS);
        const { tries } = held.taskHeaders;
        onFailed({ task: null, mailbox: held.lane, attempt: tries, problem: asProblem(error), retryAt });
      }
      await sleep(PUBLISH_RETRY_MS, stopped);
    }
  }

  const moveToParked = (held: UnackedMessage, { attempts: tries, problem }: Omit<Parked, "kind">): Promise<void> => {
    const reason = problem.message.slice(0, MAX_REASON_LENGTH);
    const headers = { tries, code: problem.code, reason, parkedAt: new Date().toISOString() };
    return publishThenAck(held, copyMessage(parkedQueue(layout), held, headers));
  };

  return {
    /** Another try is due later, of the whole task or of what is left of it. */
    retry(held: UnackedMessage, { at, attempts, task }: Retry): Promise<void> {
      const to = routingKeyFor(layout, at.getTime() - clock.now());
      const headers = { tries: attempts, notBefore: at.toISOString() };
      if (task) return publishThenAck(held, taskMessage(to, task, headers, held.messageId));
      return publishThenAck(held, copyMessage(to, held, headers));
    },

    /** Parks a task after a failure that was reported already. */
    moveToParked,

    /** Parks a task that was not tried. */
    park(held: UnackedMessage, problem: Problem): Promise<void> {
      const task = held.task instanceof Problem ? null : held.task;
      const { tries } = held.taskHeaders;
      onFailed({ task, mailbox: held.lane, attempt: tries, problem, retryAt: null });
      return moveToParked(held, { attempts: tries, problem });
    },

    /** The task is not due yet. */
    delay(held: UnackedMessage, ms: number): Promise<void> {
      return publishThenAck(held, withHeaders(held, routingKeyFor(layout, ms), {}));
    },

    /** The task prefers this process, which has no room for it, or it waited here in vain. */
    offerToAll(held: UnackedMessage): Promise<void> {
      return publishThenAck(held, withHeaders(held, layout.queue, {}));
    },

    /** The task is due, but enough tasks of its lane wait here already. */
    delayForLane(held: UnackedMessage): Promise<void> {
      const { bounces } = held.taskHeaders;
      const ms = layout.laneWaitsMs[Math.min(bounces, layout.laneWaitsMs.length - 1)];
      const to = ms === undefined ? layout.queue : laneWaitQueue(layout, ms);
      return publishThenAck(held, withHeaders(held, to, { bounces: bounces + 1 }));
    },

    /** A classic queue does not count how often it delivered a task, so the copy carries the count. */
    countRedelivery(held: UnackedMessage): Promise<void> {
      const returns = held.taskHeaders.returns + 1;
      return publishThenAck(held, withHeaders(held, layout.queue, { returns }));
    },
  };
}

function withHeaders(held: UnackedMessage, to: string, changes: Partial<TaskHeaders>): OutboundMessage {
  return copyMessage(to, held, { ...held.taskHeaders, ...changes });
}

/** The routing key for a task that has to wait this long. */
export function routingKeyFor(layout: Layout, wait: number): string {
  return wait <= 0 ? layout.queue : delayQueue(layout, nextDelay(layout.delaysMs, wait));
}
