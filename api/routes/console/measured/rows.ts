/** Adds to mailboxes what was measured of them. */
import { clock } from "../../../../shared/time.ts";
import type { MeasuredRow } from "../../../pages/console/mailbox-list.ts";
import { ticksOf } from "../../../pages/console/measured/day.ts";
import type { ShownMailbox } from "../../../pages/console/shown-mailbox.ts";
import type { ScopedDeps } from "../../../scoped-deps.ts";

/** The mailboxes with the ticks of their last day and their latency, by two reads for all of them. */
export async function measureRows(
  { store }: Pick<ScopedDeps, "store">,
  mailboxes: readonly ShownMailbox[],
): Promise<MeasuredRow[]> {
  const [measured, allRuns] = await Promise.all([
    store.measures.readMailboxes(mailboxes.map(({ mailbox }) => mailbox.id)),
    store.measures.listRuns(),
  ]);
  const runs = new Map(allRuns.map((run) => [run.id, run]));
  const now = clock.now();
  return mailboxes.map((item, n) => {
    const { states = [], latencyMs = null } = measured[n] ?? {};
    const pausedSince = item.mailbox.paused ? Date.parse(item.state.since) : null;
    return { ...item, ticks: ticksOf({ states, runs, pausedSince, now }), latencyMs };
  });
}
