/** Tasks: durable orders to a worker. They carry references, never mail and never a password. */
import * as v from "valibot";
import { Backlog, MessageRef } from "./message.ts";
import { SendEvent } from "./sending.ts";

const version = v.literal(1);

const count = v.pipe(v.number(), v.integer(), v.minValue(0));
/** How often the server said that a message is gone, and how often the message could not be downloaded, `since` then. */
export const Tried = v.object({ absent: count, failed: count, since: v.string() });
export type Tried = v.InferOutput<typeof Tried>;

/**
 * Download these messages (all of one folder) and deliver each. With `again` also those that were delivered before.
 * `backlog` as in an Arrival. `tried` counts by uid. `seenAt` is when a subscription saw the messages. `replays` names by
 * uid the delivery that is replayed.
 */
export const DeliverTask = v.object({
  version,
  kind: v.literal("deliver"),
  mailbox: v.string(),
  messages: v.pipe(v.array(MessageRef), v.minLength(1), v.maxLength(1000)),
  again: v.boolean(),
  backlog: v.exactOptional(Backlog),
  tried: v.exactOptional(v.record(v.string(), Tried)),
  replays: v.exactOptional(v.record(v.string(), v.string())),
  seenAt: v.exactOptional(v.string()),
});
export type DeliverTask = v.InferOutput<typeof DeliverTask>;

/**
 * Attempt a spooled delivery again. With `early` even before its time, because its endpoint is back or a person asked.
 */
export const RedeliverTask = v.object({
  early: v.exactOptional(v.boolean()),
  version,
  kind: v.literal("redeliver"),
  mailbox: v.string(),
  delivery: v.string(),
});
export type RedeliverTask = v.InferOutput<typeof RedeliverTask>;

/** Mark, delete or move delivered messages as the mailbox says. It is sent only after the endpoint accepted them. */
export const AfterDeliveryTask = v.object({
  version,
  kind: v.literal("afterDelivery"),
  mailbox: v.string(),
  messages: v.pipe(v.array(MessageRef), v.minLength(1)),
});
export type AfterDeliveryTask = v.InferOutput<typeof AfterDeliveryTask>;

/** Send this message, or find out what became of it. The message itself is in the store. */
export const SendTask = v.object({ version, kind: v.literal("send"), mailbox: v.string(), sending: v.string() });
export type SendTask = v.InferOutput<typeof SendTask>;

/**
 * A message that the service put into a folder: its uid in this epoch, if the server said it (RFC 4315), with these flags
 * and under any of these Message-IDs.
 */
export const PlacedCopy = v.object({
  folder: v.string(),
  epoch: v.nullable(v.string()),
  uid: v.nullable(v.number()),
  messageIds: v.array(v.string()),
  flags: v.array(v.string()),
});
export type PlacedCopy = v.InferOutput<typeof PlacedCopy>;

/**
 * Put a copy of a sent message into the mailbox's Sent folder, unless it is there. With `placed` that is done, and the
 * folder is looked at again.
 */
export const CopyTask = v.object({
  version,
  kind: v.literal("copy"),
  mailbox: v.string(),
  sending: v.string(),
  placed: v.exactOptional(PlacedCopy),
});
export type CopyTask = v.InferOutput<typeof CopyTask>;

/** Tell the endpoint the result of a sending. `at` is when it happened, `recipient` whom it concerns. */
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
 * Search the mailbox's folders and deliver what was received since a date (`since`), or the messages with these
 * Message-IDs, even if they were delivered before.
 */
export const SynchronizeTask = v.object({
  version,
  kind: v.literal("synchronize"),
  mailbox: v.string(),
  since: v.nullable(v.string()),
  messageIds: v.pipe(v.array(v.string()), v.maxLength(1000)),
});
export type SynchronizeTask = v.InferOutput<typeof SynchronizeTask>;

/** Tell the endpoint the mailbox's state, if its dialect has callbacks. */
export const CallbackTask = v.object({ version, kind: v.literal("callback"), mailbox: v.string() });
export type CallbackTask = v.InferOutput<typeof CallbackTask>;

export const Task = v.variant("kind", [
  SynchronizeTask,
  CallbackTask,
  DeliverTask,
  RedeliverTask,
  AfterDeliveryTask,
  SendTask,
  CopyTask,
  NotifyTask,
]);
export type Task = v.InferOutput<typeof Task>;

/** Kinds with another name in 0.1: the old name and the new one. */
const RENAMED_KINDS: readonly (readonly [string, Task["kind"]])[] = [
  ["tidy", "afterDelivery"],
  ["tell", "callback"],
  ["load", "synchronize"],
];

/** A task as JSON text, as a queue stores it. A kind that 0.1 wrote is read under its new name. */
export const StoredTask = v.pipe(v.string(), v.parseJson(), v.transform(withNewKind), Task);

function withNewKind(stored: unknown): unknown {
  if (typeof stored !== "object" || stored === null || !("kind" in stored)) return stored;
  return typeof stored.kind === "string" ? { ...stored, kind: currentTaskKind(stored.kind) } : stored;
}

/** The new name of a kind that may be stored under its name of 0.1. */
export function currentTaskKind(kind: string): string {
  return RENAMED_KINDS.find(([old]) => old === kind)?.[1] ?? kind;
}

/**
 * The name of a kind on a queue that nodes of 0.1 also read during a rolling update. A worker of 0.1 gives up a task
 * whose kind it does not know. From 0.3 on the new names are written.
 */
export function kindForOldNodes(kind: Task["kind"]): string {
  return RENAMED_KINDS.find(([, name]) => name === kind)?.[0] ?? kind;
}

/**
 * The result of a task. `again` puts the given rest back for later. After a thrown Problem the queue tries again on its
 * own schedule, or parks the task when the Problem says never.
 */
export type TaskOutcome = { kind: "done" } | { kind: "again"; task: Task; at: Date };
