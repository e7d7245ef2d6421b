/** Counts for diagnostics and the first page. */
import { MailboxStatus } from "../shared/contract/mailbox.ts";
import { getTaskDepth } from "../shared/queue/depth.ts";
import type { ApiDeps } from "./deps.ts";
import { firstExpirySeconds, firstTokenEndSeconds } from "./expiry.ts";

/** Mailboxes by status and deliveries by state, as the store has them now. */
export async function collectStoreCounts(store: ApiDeps["store"]) {
  const [all, enabled, deliveries, size, applications, { tokens }, ...byStatus] = await Promise.all([
    store.mailboxes.list({ limit: 1 }),
    store.mailboxes.listEnabled(),
    store.deliveries.getCounts(),
    store.measure(),
    store.applications.list(),
    store.tokens.list(),
    ...MailboxStatus.options.map(async (status) => {
      const { total } = await store.mailboxes.list({ limit: 1, status });
      return [status, total] as const;
    }),
  ]);
  return {
    mailboxes: {
      total: all.total,
      enabled: enabled.length,
      byStatus: Object.fromEntries(byStatus.filter(([, total]) => total > 0)),
    },
    deliveries,
    size,
    applicationExpires: firstExpirySeconds(applications),
    tokenExpires: firstTokenEndSeconds(tokens),
  };
}

/** The same, and the tasks in the queue. */
export async function collectCounts({ store, tasks }: Pick<ApiDeps, "store" | "tasks">) {
  const [counts, taskDepth] = await Promise.all([collectStoreCounts(store), getTaskDepth(tasks)]);
  return { ...counts, tasks: taskDepth.tasks };
}
