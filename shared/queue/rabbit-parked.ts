/** The parked queue: tasks that nobody tries any more, kept until a person looks at them. */
import type { Channel, GetMessage } from "amqplib";
import { Problem } from "../contract/problem.ts";
import type { Task } from "../contract/task.ts";
import { within } from "../time.ts";
import type { Session } from "./rabbit-link.ts";
import { arrival, copied } from "./rabbit-message.ts";
import type { Publisher } from "./rabbit-publisher.ts";
import { type Layout, parkedQueue } from "./rabbit-topology.ts";

/** `task` is null when this version cannot read it. `reason` and `parkedAt` are null when the broker parked it. */
export type ParkedTask = {
  id: string;
  task: Task | null;
  tries: number;
  reason: string | null;
  parkedAt: string | null;
};

export interface Parked {
  /** The first parked tasks, at most `limit`; they stay parked. */
  parked(limit: number): Promise<ParkedTask[]>;
  /** Makes every task that is parked now due again, as if it were new. Returns how many. */
  replayParked(): Promise<number>;
}

const STEP_MS = 10_000;

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

export async function replayAll(session: Session, layout: Layout, publisher: Publisher): Promise<number> {
  const began = new Date().toISOString();
  return onChannel(session, async (channel) => {
    for (let count = 0; ; count += 1) {
      const message = await next(channel, layout);
      if (!message) return count;
      // Parked again meanwhile: everything before it has been replayed.
      const again = (shown(message).parkedAt ?? "") > began;
      if (again) return count;
      await publisher.publish(copied(layout.queue, arrival(message), {}));
      channel.ack(message);
    }
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
