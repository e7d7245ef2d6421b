/** Durable orders to a worker. They carry references, never mail and never a password. */
import * as v from "valibot";
import { MessageRef } from "./message.ts";
import { SendEvent } from "./sending.ts";

const version = v.literal(1);

/** Fetch these messages (all of one folder) and deliver each. `again` delivers also what was delivered before. */
export const DeliverTask = v.object({
  version,
  kind: v.literal("deliver"),
  mailbox: v.string(),
  messages: v.pipe(v.array(MessageRef), v.minLength(1), v.maxLength(1000)),
  again: v.boolean(),
});
export type DeliverTask = v.InferOutput<typeof DeliverTask>;

/** Try a spooled delivery again; `early` even before its time, because its endpoint is back or a person asked. */
export const RedeliverTask = v.object({
  early: v.exactOptional(v.boolean()),
  version,
  kind: v.literal("redeliver"),
  mailbox: v.string(),
  delivery: v.string(),
});
export type RedeliverTask = v.InferOutput<typeof RedeliverTask>;

/** Do what the mailbox says about delivered messages (mark, delete, move); only ever sent after the endpoint accepted them. */
export const TidyTask = v.object({
  version,
  kind: v.literal("tidy"),
  mailbox: v.string(),
  messages: v.pipe(v.array(MessageRef), v.minLength(1)),
});
export type TidyTask = v.InferOutput<typeof TidyTask>;

/** Send this message, or look what became of it. The message itself lies in the store. */
export const SendTask = v.object({ version, kind: v.literal("send"), mailbox: v.string(), sending: v.string() });
export type SendTask = v.InferOutput<typeof SendTask>;

/** Put a copy of a sent message into the mailbox's Sent folder, unless it is there. */
export const CopyTask = v.object({ version, kind: v.literal("copy"), mailbox: v.string(), sending: v.string() });
export type CopyTask = v.InferOutput<typeof CopyTask>;

/** Tell the endpoint what became of a sending; `at` is when it happened, `recipient` whom it is about. */
export const NotifyTask = v.object({
  version,
  kind: v.literal("notify"),
  mailbox: v.string(),
  sending: v.string(),
  event: SendEvent,
  recipient: v.nullable(v.string()),
  at: v.string(),
});
export type NotifyTask = v.InferOutput<typeof NotifyTask>;

/**
 * Look through the mailbox's folders and deliver what was received since a date (`since`), or the messages with these Message-IDs,
 * once more even if it was delivered before.
 */
export const LoadTask = v.object({
  version,
  kind: v.literal("load"),
  mailbox: v.string(),
  since: v.nullable(v.string()),
  messageIds: v.pipe(v.array(v.string()), v.maxLength(1000)),
});
export type LoadTask = v.InferOutput<typeof LoadTask>;

/** Tell the endpoint how the mailbox is doing now, where its dialect has words for that. */
export const TellTask = v.object({ version, kind: v.literal("tell"), mailbox: v.string() });
export type TellTask = v.InferOutput<typeof TellTask>;

export const Task = v.variant("kind", [
  LoadTask,
  TellTask,
  DeliverTask,
  RedeliverTask,
  TidyTask,
  SendTask,
  CopyTask,
  NotifyTask,
]);
export type Task = v.InferOutput<typeof Task>;

/**
 * What became of a task. `again` puts the given rest back for later; a thrown Problem is put back by the consumer's own
 * schedule, or parked when it says never.
 */
export type TaskOutcome = { kind: "done" } | { kind: "again"; task: Task; at: Date };
