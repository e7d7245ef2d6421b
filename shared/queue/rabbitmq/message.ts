/** A task as a message: JSON in the body, what became of it so far in the headers. */
import { randomUUID } from "node:crypto";
import type { Message } from "amqplib";
import * as v from "valibot";
import { Problem } from "../../contract/problem.ts";
import { Task } from "../../contract/task.ts";

/**
 * `tries` counts the attempts made. `returns` counts how often it was handed out and came back without an answer, `bounces` how
 * often it found its lane full.
 */
const Travel = v.object({
  tries: v.fallback(v.number(), 0),
  returns: v.fallback(v.number(), 0),
  bounces: v.fallback(v.number(), 0),
  notBefore: v.fallback(v.pipe(v.string(), v.isoTimestamp()), new Date(0).toISOString()),
});
export type Travel = v.InferOutput<typeof Travel>;

/** `to` is a routing key. */
export type Outgoing = {
  to: string;
  content: Buffer;
  headers: Record<string, string | number>;
  messageId: string;
  type: string;
  contentType: string;
  timestamp: number;
};

/** One message handed out by the broker. */
export type Arrival = {
  messageId: string;
  content: Buffer;
  type: string;
  /** A Problem when this version cannot read it; `lane` is empty then. */
  task: Task | Problem;
  lane: string;
  travel: Travel;
  /** When it was put in the queue or became due, whichever was later; in ms since 1970, as exact as a second. */
  readyAt: number;
  /** It was handed out before. Quorum queues count how often, and `travel.returns` has it; classic ones do not. */
  redelivered: boolean;
};

/** A message that carries this task. `messageId` stays with it through its delays. */
export function outgoing(to: string, task: Task, travel: Partial<Travel>, messageId: string = randomUUID()): Outgoing {
  const content = Buffer.from(JSON.stringify(task));
  return { ...envelope, to, content, headers: { ...travel }, messageId, type: `task.${task.kind}`, timestamp: now() };
}

/** The same message once more, unread, with these headers and no others. */
export function copied(to: string, from: Arrival, headers: Record<string, string | number>): Outgoing {
  const { content, messageId, type } = from;
  return { ...envelope, to, content, headers, messageId, type, timestamp: now() };
}

const envelope = { contentType: "application/json" };
const now = () => Math.floor(Date.now() / 1000);

/** Reads a message, whatever is in it. */
export function arrival({ content, fields, properties }: Message): Arrival {
  const headers: Record<string, unknown> = properties.headers ?? {};
  const travel = v.parse(Travel, headers);
  const counted = headers["x-delivery-count"];
  const returns = travel.returns + (typeof counted === "number" ? counted : 0);
  const task = readTask(content);
  return {
    messageId: typeof properties.messageId === "string" ? properties.messageId : randomUUID(),
    content,
    type: typeof properties.type === "string" ? properties.type : "task",
    task,
    lane: task instanceof Problem ? "" : task.mailbox,
    travel: { ...travel, returns },
    readyAt: Math.max(sentAt(properties.timestamp), Date.parse(travel.notBefore)),
    redelivered: fields.redelivered,
  };
}

/** Messages of others may carry no time: they have waited for nobody. */
function sentAt(timestamp: unknown): number {
  return typeof timestamp === "number" ? timestamp * 1000 : Date.now();
}

const Stored = v.pipe(v.string(), v.parseJson(), Task);

function readTask(content: Buffer): Task | Problem {
  const result = v.safeParse(Stored, content.toString("utf8"));
  if (result.success) return result.output;
  return new Problem("internal", "A task was written by another version of the service", {
    retry: "never",
    evidence: result.issues[0].message,
  });
}
