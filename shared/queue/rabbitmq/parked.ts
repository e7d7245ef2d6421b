/** The parked queue: tasks that nobody tries any more, kept until a person looks at them. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Channel, GetMessage } from "amqplib";
import { Problem } from "../../contract/problem.ts";
import { within } from "../../time.ts";
import type { ParkedTask } from "../queue.ts";
import type { Session } from "./connection.ts";
import { arrival, copied } from "./message.ts";
import type { Publisher } from "./publisher.ts";
import { type Layout, parkedQueue } from "./topology.ts";

const STEP_MS = 10_000;
/** What somebody has just looked at is back in the queue after this. */
const GIVEN_BACK_MS = 300;

/** The first parked tasks, which stay parked. */
export async function listParked(session: Session, layout: Layout, limit: number): Promise<ParkedTask[]> {
  return onChannel(session, async (channel) => {
    const taken: GetMessage[] = [];
    try {
      while (taken.length < limit) {
        const message = await next(channel, layout);
        if (!message) break;
        taken.push(message);
      }
      return taken.map(shown);
    } finally {
      for (const message of taken) channel.nack(message, false, true);
    }
  });
}

/** Makes parked tasks due again, those with these ids or all. */
export function replay(
  { session, layout, publisher }: { session: Session; layout: Layout; publisher: Publisher },
  ids: readonly string[] | undefined,
): Promise<number> {
  return answered(session, layout, ids, (message) => publisher.publish(copied(layout.queue, arrival(message), {})));
}

/** Forgets parked tasks for good. */
export function drop(session: Session, layout: Layout, ids: readonly string[]): Promise<number> {
  return answered(session, layout, ids, async () => undefined);
}

/** `left` are the ids still to be found, undefined for all there are. */
type Answering = {
  left: Set<string> | undefined;
  done: Set<string>;
  work: (message: GetMessage) => Promise<void>;
};

/** Takes what is parked now (with these ids, or all of it) off the queue, each after its `work`. Returns how many. */
async function answered(
  session: Session,
  layout: Layout,
  ids: readonly string[] | undefined,
  work: (message: GetMessage) => Promise<void>,
): Promise<number> {
  const answering = { left: ids && new Set(ids), done: new Set<string>(), work };
  const count = await pass(session, layout, answering);
  if (answering.left ? answering.left.size === 0 : count > 0) return count;
  await sleep(GIVEN_BACK_MS);
  return count + (await pass(session, layout, answering));
}

function pass(session: Session, layout: Layout, { left, done, work }: Answering): Promise<number> {
  return onChannel(session, async (channel) => {
    let count = 0;
    // What is not answered goes back when the channel is closed.
    for (;;) {
      const message = left?.size === 0 ? false : await next(channel, layout);
      if (!message) break;
      const { id } = shown(message);
      // Not asked for, or parked again meanwhile; times would not tell, since other nodes wrote them.
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

function next(channel: Channel, layout: Layout): Promise<GetMessage | false> {
  return within(STEP_MS, "Looking at a parked task", channel.get(parkedQueue(layout)));
}

function shown(message: GetMessage): ParkedTask {
  const { messageId, task, travel } = arrival(message);
  const { reason, parkedAt } = message.properties.headers ?? {};
  return {
    id: messageId,
    task: task instanceof Problem ? null : task,
    tries: travel.tries,
    reason: typeof reason === "string" ? reason : null,
    parkedAt: typeof parkedAt === "string" ? parkedAt : null,
  };
}

/** A channel for this purpose only: closing it gives back whatever was not answered. */
export async function onChannel<T>(session: Session, work: (channel: Channel) => Promise<T>): Promise<T> {
  const channel = await within(STEP_MS, "Opening a channel on RabbitMQ", session.model.createChannel());
  // The call that made the broker close the channel rejects with the same error.
  channel.on("error", () => undefined);
  try {
    return await work(channel);
  } finally {
    // A channel the broker has closed already needs no closing.
    await within(STEP_MS, "Closing a channel", channel.close()).catch(() => undefined);
  }
}
