/** A task as an AMQP message: JSON in the body, its history in the headers. */
import { randomUUID } from "node:crypto";
import type { Message } from "amqplib";
import * as v from "valibot";
import { Problem } from "../../contract/problem.ts";
import { kindForOldNodes, type Task } from "../../contract/task.ts";
import { clock } from "../../time.ts";
import { parseTask } from "../stored-task.ts";

/**
 * `tries` counts the tries. `returns` counts the deliveries without an answer. `bounces` counts how often its lane was
 * full.
 */
const TaskHeaders = v.object({
  tries: v.fallback(v.number(), 0),
  returns: v.fallback(v.number(), 0),
  bounces: v.fallback(v.number(), 0),
  notBefore: v.fallback(v.pipe(v.string(), v.isoTimestamp()), new Date(0).toISOString()),
});
export type TaskHeaders = v.InferOutput<typeof TaskHeaders>;

/** `to` is a routing key, `otherwise` the one that is used if no queue accepts the message under the first. */
export type OutboundMessage = {
  to: string;
  otherwise?: string;
  content: Buffer;
  headers: Record<string, string | number>;
  messageId: string;
  type: string;
  contentType: string;
  timestamp: number;
};

/** A message that the broker delivered. */
export type BrokerMessage = {
  messageId: string;
  content: Buffer;
  type: string;
  /** A Problem if this version cannot read the task. Then `lane` is empty. */
  task: Task | Problem;
  lane: string;
  taskHeaders: TaskHeaders;
  /** When it was sent or became due, whichever was later, in ms since 1970, exact to a second. */
  readyAt: number;
  /** It was delivered before. Quorum queues count how often (`taskHeaders.returns`); classic queues do not. */
  redelivered: boolean;
};

/** A message with this task, which nodes of 0.1 can read too. `messageId` stays the same through all delays. */
export function taskMessage(
  to: string,
  task: Task | string,
  taskHeaders: Partial<TaskHeaders>,
  messageId: string = randomUUID(),
): OutboundMessage {
  const { json, type } = typeof task === "string" ? { json: task, type: "task" } : encodeTask(task);
  const content = Buffer.from(json);
  return { ...envelope, to, content, headers: { ...taskHeaders }, messageId, type, timestamp: nowSeconds() };
}

function encodeTask(task: Task): { json: string; type: string } {
  const kind = kindForOldNodes(task.kind);
  return { json: JSON.stringify({ ...task, kind }), type: `task.${kind}` };
}

/** The same message again, with exactly these headers. The task is not parsed. */
export function copyMessage(
  to: string,
  from: BrokerMessage,
  headers: Record<string, string | number>,
): OutboundMessage {
  const { content, messageId, type } = from;
  return { ...envelope, to, content, headers, messageId, type, timestamp: nowSeconds() };
}

const envelope = { contentType: "application/json" };
const nowSeconds = () => Math.floor(clock.now() / 1000);

/** Parses a message, whatever its content is. */
export function parseMessage({ content, fields, properties }: Message): BrokerMessage {
  const headers: Record<string, unknown> = properties.headers ?? {};
  const taskHeaders = v.parse(TaskHeaders, headers);
  const deliveryCount = headers["x-delivery-count"];
  const returns = taskHeaders.returns + (typeof deliveryCount === "number" ? deliveryCount : 0);
  const task = parseTask(content.toString("utf8"));
  return {
    messageId: typeof properties.messageId === "string" ? properties.messageId : randomUUID(),
    content,
    type: typeof properties.type === "string" ? properties.type : "task",
    task,
    lane: task instanceof Problem ? "" : task.mailbox,
    taskHeaders: { ...taskHeaders, returns },
    readyAt: Math.max(sentAtMs(properties.timestamp), Date.parse(taskHeaders.notBefore)),
    redelivered: fields.redelivered,
  };
}

/** Messages from other programs may have no time. They count as sent now. */
function sentAtMs(timestamp: unknown): number {
  return typeof timestamp === "number" ? timestamp * 1000 : clock.now();
}
