/**
 * Gathers `afterDelivery` work for a moment: many messages of a mailbox in one task need one session with its server.
 */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { MessageRef } from "../../shared/contract/message.ts";
import { afterDeliveryOf } from "../../shared/mail/defaults.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";
import { clock } from "../../shared/time.ts";

/** Resolves once the task for this delivered message is in the queue; at once if the mailbox wants nothing done. */
export type ScheduleAfterDelivery = (mailbox: Mailbox, message: MessageRef) => Promise<void>;

const BATCH_WINDOW_MS = 100;
const MAX_BATCH_SIZE = 200;
const DAY_MS = 24 * 3_600_000;

type Batch = { messages: MessageRef[]; sent: Promise<void>; send: () => void };

export function afterDeliveryBatches({ tasks }: { tasks: TaskSender }): ScheduleAfterDelivery {
  const batches = new Map<string, Batch>();

  const openBatch = (mailbox: string, folder: string, afterDays: number): Batch => {
    const key = JSON.stringify([mailbox, folder, afterDays]);
    const existing = batches.get(key);
    if (existing) return existing;
    const messages: MessageRef[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, BATCH_WINDOW_MS);
    const sent = promise.then(() => {
      clearTimeout(timer);
      batches.delete(key);
      const notBefore = new Date(clock.now() + afterDays * DAY_MS);
      const task = { version: 1, kind: "afterDelivery", mailbox, messages } as const;
      return tasks.send(task, afterDays > 0 ? { notBefore } : {});
    });
    const batch = { messages, sent, send: resolve };
    batches.set(key, batch);
    return batch;
  };

  return async (mailbox, message) => {
    const action = afterDeliveryOf(mailbox.receive);
    if (action === "leave") return;
    const days = typeof action === "object" && "deleteAfterDays" in action ? action.deleteAfterDays : 0;
    const batch = openBatch(mailbox.id, message.folder, days);
    batch.messages.push(message);
    if (batch.messages.length >= MAX_BATCH_SIZE) batch.send();
    await batch.sent;
  };
}
