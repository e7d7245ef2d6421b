/** How much there is of everything, for diagnostics and the first page. */
import { MailboxStatus } from "../shared/contract/mailbox.ts";
import { tasksNow } from "../shared/queue/depth.ts";
import type { ApiDeps } from "./deps.ts";

/** Mailboxes by status, deliveries by state and waiting tasks, as the store knows them now. */
export async function counted({ store, tasks }: Pick<ApiDeps, "store" | "tasks">) {
  const [all, wanted, deliveries, waiting, ...byStatus] = await Promise.all([
    store.mailboxes.list({ limit: 1 }),
    store.mailboxes.wanted(),
    store.deliveries.counts(),
    tasksNow(tasks),
    ...MailboxStatus.options.map(async (status) => {
      const { total } = await store.mailboxes.list({ limit: 1, status });
      return [status, total] as const;
    }),
  ]);
  return {
    mailboxes: {
      total: all.total,
      wanted: wanted.length,
      byStatus: Object.fromEntries(byStatus.filter(([, total]) => total > 0)),
    },
    deliveries,
    tasks: waiting.tasks,
  };
}
