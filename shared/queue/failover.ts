/**
 * A broker with a stand-in. Tasks wait in the stand-in while the broker accepts none, and move to the broker when it is
 * back.
 */
import { asProblem, type Problem } from "../contract/problem.ts";
import { runTogether } from "../run.ts";
import { withTimeout } from "../time.ts";
import type { ParkedTasks, PerformTask, TaskDepth, TaskQueue, TaskSender } from "./queue.ts";

/** Where tasks are sent instead of being performed, while it is open. */
export type HandOver = {
  isOpen(): boolean;
  /**
   * Resolves once the task is durable there. `json` is the task as another queue stored it; `attempts` counts the tries
   * so far.
   */
  send(json: string, options: { notBefore: Date; attempts: number }): Promise<void>;
};

export type Broker = TaskSender &
  ParkedTasks & {
    /** As `HandOver.send`. A task that did not leave this process before the signal aborts never leaves it. */
    sendStored(json: string, options: { notBefore: Date; attempts: number }, signal?: AbortSignal): Promise<void>;
    /** Why the broker accepts no tasks now, as far as that is known. */
    trouble(): Problem | null;
    run(
      perform: PerformTask,
      options: { concurrency: number; priority?: number; own?: string },
      signal: AbortSignal,
    ): Promise<void>;
    depth(): Promise<TaskDepth>;
  };

export type StandIn = Omit<TaskQueue, "run"> & {
  run(
    perform: PerformTask,
    options: { concurrency: number; handOver: HandOver; own?: string },
    signal: AbortSignal,
  ): Promise<void>;
};

export type FailoverQueue = Omit<TaskQueue, "run"> & Pick<Broker, "run">;

/** If the broker is connected but does not confirm in time, nobody asks it for this long. The last pause repeats. */
const PAUSES_MS = [5_000, 15_000, 30_000, 60_000];
/** A refusal that took this long was a timeout. The next sender would wait as long. */
const SLOW_MS = 2_000;
/** How long a sender waits for the broker before the task goes to the stand-in. */
const BROKER_TIMEOUT_MS = 5_000;

/**
 * Sends to the broker while it confirms, else to the stand-in. When `send` resolves, the task is durable in one of the
 * two; a task whose confirmation was lost is in both. While the broker accepts none, the processes perform the tasks of
 * the stand-in. When the broker is back, the remaining tasks move to it, with their times and attempts. Parked tasks
 * stay where they were parked.
 */
export function failoverQueue({ broker, standIn }: { broker: Broker; standIn: StandIn }): FailoverQueue {
  const offers = brokerOffers(broker);
  const handOver: HandOver = {
    isOpen: () => offers.refusal() === null,
    async send(json, options) {
      const why = await offers.offer((until) => broker.sendStored(json, options, until));
      if (why) throw why;
    },
  };
  return {
    async send(task, options = {}, signal) {
      const why = await offers.offer((until) => broker.send(task, options, until), signal);
      if (why) await standIn.send(task, options, signal);
    },
    run: (perform, { priority, ...options }, signal) =>
      runTogether(
        [
          {
            name: "tasks on the broker",
            run: (until) => broker.run(perform, { ...options, ...(priority && { priority }) }, until),
          },
          {
            name: "tasks in the stand-in",
            run: (until) => standIn.run(perform, { ...options, handOver }, until),
          },
        ],
        signal,
      ),
    async depth() {
      const [there, here] = await Promise.all([broker.depth(), standIn.depth()]);
      return addDepths(there, here);
    },
    async parked(limit, mailboxPrefix) {
      const [there, here] = await Promise.all([
        broker.parked(limit, mailboxPrefix),
        standIn.parked(limit, mailboxPrefix),
      ]);
      return [...here, ...there].slice(0, limit);
    },
    async replayParked(ids) {
      return (await standIn.replayParked(ids)) + (await broker.replayParked(ids));
    },
    async dropParked(ids) {
      return (await standIn.dropParked(ids)) + (await broker.dropParked(ids));
    },
  };
}

function addDepths(there: TaskDepth, here: TaskDepth): TaskDepth {
  return {
    ...there,
    ready: there.ready + here.ready,
    delayed: there.delayed + here.delayed,
    running: there.running + here.running,
    parked: (there.parked ?? 0) + (here.parked ?? 0),
    longestWaitSeconds: Math.max(there.longestWaitSeconds ?? 0, here.longestWaitSeconds ?? 0),
  };
}

type Offers = {
  /** Why the broker is not asked now. Null if it is asked. */
  refusal(): Problem | null;
  /**
   * Calls `send`. Null once the task is durable on the broker, else the reason. If the reason is known before, it
   * answers at once. After the answer, `until` is aborted: the task may be sent elsewhere, so it must not go to the
   * broker too.
   */
  offer(send: (until: AbortSignal) => Promise<void>, signal?: AbortSignal): Promise<Problem | null>;
};

function brokerOffers(broker: Broker): Offers {
  let pause: { since: number; until: number; why: Problem; times: number } | null = null;
  const recordRefusal = (why: Problem, askedAt: number) => {
    const now = performance.now();
    // Senders that waited at the same time count as one refusal.
    if (pause && pause.until !== Infinity && pause.since > askedAt) return;
    const times = (pause?.times ?? 0) + 1;
    const pauseMs = PAUSES_MS[Math.min(times, PAUSES_MS.length) - 1] ?? 0;
    pause = now - askedAt >= SLOW_MS ? { since: now, until: now + pauseMs, why, times } : null;
  };
  const refusal = () => broker.trouble() ?? (pause && performance.now() < pause.until ? pause.why : null);
  return {
    refusal,
    async offer(send, signal) {
      signal?.throwIfAborted();
      const known = refusal();
      if (known) return known;
      const askedAt = performance.now();
      // While this sender tries, the others do not.
      if (pause) pause = { ...pause, until: Infinity };
      const answered = new AbortController();
      try {
        await withTimeout(BROKER_TIMEOUT_MS, "Sending a task to the broker", send(answered.signal), signal);
        pause = null;
        return null;
      } catch (error) {
        const why = asProblem(error);
        recordRefusal(why, askedAt);
        signal?.throwIfAborted();
        return why;
      } finally {
        answered.abort();
      }
    },
  };
}
