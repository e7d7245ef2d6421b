/** Durable orders to a worker. They carry references, never mail and never a password. */
import * as v from "valibot";
import { MessageRef } from "./message.ts";

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

export const Task = v.variant("kind", [DeliverTask, RedeliverTask, TidyTask]);
export type Task = v.InferOutput<typeof Task>;

/**
 * What became of a task. `again` puts the given rest back for later; a thrown Problem is put back by the consumer's own
 * schedule, or parked when it says never.
 */
export type TaskOutcome = { kind: "done" } | { kind: "again"; task: Task; at: Date };
