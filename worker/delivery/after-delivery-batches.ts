/** Orders to tidy, gathered for a moment: many messages of a mailbox in one task are one session with its server. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import type { MessageRef } from "../../shared/contract/message.ts";
import { afterDeliveryOf } from "../../shared/mail/defaults.ts";
import type { TaskSender } from "../../shared/queue/queue.ts";

/** Resolves once the order for what the mailbox wants done with this delivered message is safe (at once if it wants nothing). */
export type Tidying = (mailbox: Mailbox, message: MessageRef) => Promise<void>;

const GATHER_MS = 100;
const MOST_TOGETHER = 200;
const DAY_MS = 24 * 3_600_000;

type Gathered = { messages: MessageRef[]; sent: Promise<void>; send: () => void };

export function tidyOrders({ tasks }: { tasks: TaskSender }): Tidying {
  const gathering = new Map<string, Gathered>();

  const begun = (mailbox: string, folder: string, afterDays: number): Gathered => {
    const key = JSON.stringify([mailbox, folder, afterDays]);
    const open = gathering.get(key);
    if (open) return open;
    const messages: MessageRef[] = [];
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, GATHER_MS);
    const sent = promise.then(() => {
      clearTimeout(timer);
      gathering.delete(key);
      const notBefore = new Date(Date.now() + afterDays * DAY_MS);
      const task = { version: 1, kind: "tidy", mailbox, messages } as const;
      return tasks.send(task, afterDays > 0 ? { notBefore } : {});
    });
    const one = { messages, sent, send: resolve };
    gathering.set(key, one);
    return one;
  };

  return async (mailbox, message) => {
    const action = afterDeliveryOf(mailbox.receive);
    if (action === "leave") return;
    const days = typeof action === "object" && "deleteAfterDays" in action ? action.deleteAfterDays : 0;
    const order = begun(mailbox.id, message.folder, days);
    order.messages.push(message);
    if (order.messages.length >= MOST_TOGETHER) order.send();
    await order.sent;
  };
}
