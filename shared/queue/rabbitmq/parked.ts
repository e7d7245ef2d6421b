/** The parked queue: tasks that are not tried any more, kept until a person decides. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Channel, GetMessage } from "amqplib";
import { Problem } from "../../contract/problem.ts";
import { withTimeout } from "../../time.ts";
import type { ParkedTask } from "../queue.ts";
import type { BrokerSession } from "./connection.ts";
import { parseMessage, copyMessage } from "./message.ts";
import type { Publisher } from "./publisher.ts";
import { type Layout, parkedQueue } from "./topology.ts";

const STEP_MS = 10_000;
/** Listed messages are back in the queue after this time. */
const REQUEUE_MS = 300;

/** Messages that are read for one list. All of them are held until it is complete. */
const MAX_READ = 10_000;

/** The first parked tasks, of mailboxes whose ids begin so. They stay parked. */
export async function listParkedTasks(
  session: BrokerSession,
  layout: Layout,
  { limit, mailboxPrefix = "" }: { limit: number; mailboxPrefix: string | undefined },
): Promise<ParkedTask[]> {
  return withChannel(session, async (channel) => {
    const messages: GetMessage[] = [];
    const found: ParkedTask[] = [];
    try {
      while (found.length < limit && messages.length < MAX_READ) {
        const message = await getNext(channel, layout);
        if (!message) break;
        messages.push(message);
        const parked = toParkedTask(message);
        if ((parked.task?.mailbox ?? "").startsWith(mailboxPrefix)) found.push(parked);
      }
      return found;
    } finally {
      for (const message of messages) channel.nack(message, false, true);
    }
  });
}

/** Makes parked tasks due again: those with these ids, or all. */
export function replayParkedTasks(
  { session, layout, publisher }: { session: BrokerSession; layout: Layout; publisher: Publisher },
  ids: readonly string[] | undefined,
): Promise<number> {
  return processParked(session, layout, ids, (message) =>
    publisher.publish(copyMessage(layout.queue, parseMessage(message), {})),
  );
}

/** Deletes parked tasks for good. */
export function dropParkedTasks(session: BrokerSession, layout: Layout, ids: readonly string[]): Promise<number> {
  return processParked(session, layout, ids, async () => undefined);
}

/** `left`: the ids that were not found yet. Undefined means all parked tasks. */
type Selection = {
  left: Set<string> | undefined;
  done: Set<string>;
  work: (message: GetMessage) => Promise<void>;
};

/** Removes parked tasks (those with these ids, or all) from the queue, each after its `work`. Returns how many. */
async function processParked(
  session: BrokerSession,
  layout: Layout,
  ids: readonly string[] | undefined,
  work: (message: GetMessage) => Promise<void>,
): Promise<number> {
  const selection = { left: ids && new Set(ids), done: new Set<string>(), work };
  const count = await processOnce(session, layout, selection);
  if (selection.left ? selection.left.size === 0 : count > 0) return count;
  await sleep(REQUEUE_MS);
  return count + (await processOnce(session, layout, selection));
}

function processOnce(session: BrokerSession, layout: Layout, { left, done, work }: Selection): Promise<number> {
  return withChannel(session, async (channel) => {
    let count = 0;
    // Messages without an answer go back to the queue when the channel is closed.
    for (;;) {
      const message = left?.size === 0 ? false : await getNext(channel, layout);
      if (!message) break;
      const { id } = toParkedTask(message);
      // Not requested, or parked again in the meantime. Times cannot tell that, because other nodes wrote them.
      if (done.has(id) || (left && !left.has(id))) continue;
      await work(message);
      channel.ack(message);
      done.add(id);
      left?.delete(id);
      count += 1;
    }
    return count;
  });
}

function getNext(channel: Channel, layout: Layout): Promise<GetMessage | false> {
  return withTimeout(STEP_MS, "Reading a parked task", channel.get(parkedQueue(layout)));
}

function toParkedTask(message: GetMessage): ParkedTask {
  const { messageId, task, taskHeaders } = parseMessage(message);
  const { reason, parkedAt } = message.properties.headers ?? {};
  return {
    id: messageId,
    task: task instanceof Problem ? null : task,
    tries: taskHeaders.tries,
    reason: typeof reason === "string" ? reason : null,
    parkedAt: typeof parkedAt === "string" ? parkedAt : null,
  };
}

/** Opens a channel for one purpose. Closing it gives back all messages without an answer. */
export async function withChannel<T>(session: BrokerSession, work: (channel: Channel) => Promise<T>): Promise<T> {
  const channel = await withTimeout(STEP_MS, "Opening a channel on RabbitMQ", session.model.createChannel());
  // The call whose failure closed the channel rejects with the same error.
  channel.on("error", () => undefined);
  try {
    return await work(channel);
  } finally {
    // If the broker has closed the channel already, there is nothing to close.
    await withTimeout(STEP_MS, "Closing a channel", channel.close()).catch(() => undefined);
  }
}
