/** Consumes tasks from RabbitMQ. A task is acknowledged only after its outcome is safe. */
import type { ConsumeMessage } from "amqplib";
import { untilAborted } from "../../concurrency/abort.ts";
import { Problem } from "../../contract/problem.ts";
import { withTimeout } from "../../time.ts";
import type { PerformTask } from "../queue.ts";
import type { UnackedMessage } from "./answers.ts";
import { taskHandler, type TaskHandlerDeps } from "./handler.ts";
import { type BrokerSession, isAccessRefused, type RabbitConnection } from "./connection.ts";
import { parseMessage } from "./message.ts";
import { laneSlots, type LaneSlots, prefetchFor } from "./concurrency.ts";
import { declareOwnQueue, ownQueue } from "./topology.ts";

export type ConsumeOptions = {
  perform: PerformTask;
  concurrency: number;
  /** Below 0 for a stand-in: the broker gives it tasks only while no other consumer has room. */
  priority: number;
  /** The name by which tasks may prefer this process. */
  own?: string | undefined;
};

/**
 * `stop` cancels the consumer. Tasks that were delivered can be answered until `close`, which waits until the answers
 * have arrived.
 */
export type Consumer = {
  /** Whether another process consumes the queue and no task waits in it. False too if the broker does not say it. */
  othersHaveRoom(): Promise<boolean>;
  stop(): Promise<void>;
  close(): Promise<void>;
};

type ConsumeDeps = TaskHandlerDeps & {
  /** Opens the connection for consuming. `setup` is called on each new one. */
  open: (setup: (session: BrokerSession) => Promise<Consumer>) => RabbitConnection<Consumer>;
  /** The slots of all consumers in this process, for counting. */
  allSlots: Set<LaneSlots>;
  onWarning: ((about: string) => void) | undefined;
};

/** How long a shutdown waits for tasks in flight. */
const GRACE_MS = 10_000;
const CANCEL_MS = 2_000;
const CHECK_MS = 5_000;
/** How long the first tasks of a new connection are collected before one starts. */
const COLLECT_MS = 50;

/** Consumes until the signal aborts. Then it takes no new tasks, waits for those in flight, and gives back the rest. */
export async function consume(deps: ConsumeDeps, work: ConsumeOptions, signal: AbortSignal): Promise<void> {
  const writesEnd = new AbortController();
  const hasRoomElsewhere = async () => (await connection.current()?.othersHaveRoom()) ?? false;
  const slots = laneSlots(work.concurrency, hasRoomElsewhere);
  const handle = taskHandler(deps, work.perform, slots, { signal, writesEnd: writesEnd.signal });
  const inFlight = new Map<UnackedMessage, Promise<void>>();
  const startHandling = (held: UnackedMessage) => {
    const handled = handle(held).finally(() => inFlight.delete(held));
    inFlight.set(held, handled);
  };
  const connection = deps.open((session) => {
    slots.pause(COLLECT_MS);
    return startConsumer(deps, work, session, startHandling);
  });
  deps.allSlots.add(slots);
  try {
    await untilAborted(signal);
    slots.close();
    await connection.current()?.stop();
    await waitForInFlight([...inFlight.values()]);
  } finally {
    writesEnd.abort();
    deps.allSlots.delete(slots);
    // Since RabbitMQ 4.3 a connection that ends counts against its unacknowledged tasks. Tasks that are given back do
    // not count.
    for (const held of inFlight.keys()) held.requeue();
    await connection.close();
  }
}

async function startConsumer(
  { layout, onWarning }: ConsumeDeps,
  work: ConsumeOptions,
  session: BrokerSession,
  startHandling: (held: UnackedMessage) => void,
): Promise<Consumer> {
  const channel = await session.model.createChannel();
  channel.on("error", (error) =>
    session.destroy(new Problem("queue", `RabbitMQ ended the consuming: ${error.message}`)),
  );
  channel.on("close", () => session.destroy(new Problem("queue", "RabbitMQ closed the channel")));
  // The limit is per consumer. Quorum queues, and RabbitMQ 4.3, refuse a limit for the whole channel (global).
  await channel.prefetch(prefetchFor(work.concurrency));
  const onMessage = (isOwn: boolean) => (message: ConsumeMessage | null) => {
    if (message === null) return session.destroy(new Problem("queue", `A queue of ${layout.queue} was deleted`));
    return startHandling(toUnacked(message, isOwn));
  };
  const { consumerTag } = await channel.consume(layout.queue, onMessage(false), { priority: work.priority });
  const tags = [consumerTag, ...(await consumeOwn())];
  return {
    othersHaveRoom: () =>
      withTimeout(CHECK_MS, "Counting the tasks of the queue", channel.checkQueue(layout.queue)).then(
        ({ messageCount, consumerCount }) => messageCount === 0 && consumerCount > 1,
        () => false,
      ),
    async stop() {
      await Promise.all(tags.map((tag) => ignoreFailure("Cancelling the consumer", channel.cancel(tag))));
    },
    close: () => ignoreFailure("Closing the channel", channel.close()),
  };

  async function consumeOwn(): Promise<string[]> {
    if (work.own === undefined || !(await mayDeclareOwn(work.own))) return [];
    // The limit counts for the consumers that start after it. What this process cannot start at once is for others.
    await channel.prefetch(work.concurrency);
    return [(await channel.consume(ownQueue(layout, work.own), onMessage(true))).consumerTag];
  }

  /** A user whose permissions name each queue may lack this one. Then the process works without it. */
  async function mayDeclareOwn(own: string): Promise<boolean> {
    try {
      await declareOwnQueue(session.model, layout, own);
      return true;
    } catch (error) {
      if (!(error instanceof Error) || !isAccessRefused(error.message)) throw error;
      const pattern = `${layout.queue}.for.*`;
      onWarning?.(
        `RabbitMQ does not let this node declare ${ownQueue(layout, own)}. It works without it, but mailboxes then change ` +
          `between workers, which costs connections and CPU. Give the RabbitMQ user all permissions for ${pattern}`,
      );
      return false;
    }
  }

  function toUnacked(message: ConsumeMessage, isOwn: boolean): UnackedMessage {
    let settled = false;
    const once = (answer: () => void) => () => {
      if (settled || session.closed.aborted) return;
      settled = true;
      answer();
    };
    return {
      ...parseMessage(message),
      isOwn,
      closed: session.closed,
      ack: once(() => channel.ack(message)),
      requeue: once(() => channel.nack(message, false, true)),
    };
  }
}

/** If this fails, the connection is about to end, which has the same effect. */
function ignoreFailure(what: string, work: Promise<unknown>): Promise<void> {
  return withTimeout(CANCEL_MS, what, work).then(ignore, ignore);
}

function ignore(): void {}

/** Tasks that do not end in time are given back and performed again. Their late outcomes are ignored. */
async function waitForInFlight(inFlight: Promise<void>[]): Promise<void> {
  await withTimeout(GRACE_MS, "Finishing the tasks in flight", Promise.allSettled(inFlight)).catch((error: unknown) => {
    if (!(error instanceof Problem)) throw error;
  });
}
