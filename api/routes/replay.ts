/** Replays deliveries: from the spool if it has the bytes, else from the mail server. */
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { MessageRef } from "../../shared/contract/message.ts";
import type { DeliveryQuery } from "../../shared/store/delivery-search.ts";
import { clock } from "../../shared/time.ts";
import type { ApiDeps } from "../deps.ts";
import { parseDate } from "../http/dates.ts";
import { redeliver } from "../redeliver.ts";

type ReplayDeps = Pick<ApiDeps, "store" | "tasks" | "config">;
type DeliverySelection = { since: string; mailbox?: string | undefined; state: NonNullable<DeliveryQuery["state"]> };

const PAGE = 500;

/** Sends a task for each delivery. Resolves once all tasks are safe. */
export async function replay(deps: ReplayDeps, deliveries: Delivery[]): Promise<void> {
  const folders = new Map<string, { mailbox: string; messages: MessageRef[]; replays: Record<string, string> }>();
  for (const delivery of deliveries) {
    const { id, mailbox, ref, state, spooled } = delivery;
    if (spooled && state !== "delivered") {
      await markDueNow(deps, delivery);
      await deps.tasks.send({ version: 1, kind: "redeliver", mailbox, delivery: id });
      continue;
    }
    const key = JSON.stringify([mailbox, ref.folder, ref.epoch]);
    const folder = folders.get(key) ?? { mailbox, messages: [], replays: {} };
    folder.messages.push(ref);
    folder.replays[ref.uid] = id;
    folders.set(key, folder);
  }
  for (const { mailbox, messages, replays } of folders.values())
    await redeliver(deps, mailbox, messages, true, replays);
}

/** A replayed delivery gets RETRY_HOURS again. */
async function markDueNow({ store, config }: ReplayDeps, delivery: Delivery): Promise<void> {
  const now = clock.now();
  const giveUpAt = new Date(now + config.RETRY_HOURS * 3_600_000).toISOString();
  await store.deliveries.save({ ...delivery, state: "retrying", nextAttemptAt: new Date(now).toISOString(), giveUpAt });
}

/** Replays all selected deliveries and resolves with their number. */
export async function replaySince(deps: ReplayDeps, selection: DeliverySelection): Promise<number> {
  const { state, mailbox } = selection;
  const query = { limit: PAGE, state, since: parseDate(selection.since).toISOString(), ...(mailbox && { mailbox }) };
  // The ids are collected before the first replay, because a replayed delivery changes its state, which would shift
  // the following pages.
  const ids: string[] = [];
  let cursor: string | undefined;
  do {
    const page = await deps.store.deliveries.list(cursor === undefined ? query : { ...query, cursor });
    ids.push(...page.items.map((delivery) => delivery.id));
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
  for (let start = 0; start < ids.length; start += PAGE) {
    const found = await Promise.all(ids.slice(start, start + PAGE).map((id) => deps.store.deliveries.get(id)));
    await replay(
      deps,
      found.filter((delivery) => delivery !== undefined),
    );
  }
  return ids.length;
}
