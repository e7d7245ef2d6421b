/** Delivering again what is kept: from the spool where the bytes are there, else from the mail server. */
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { MessageRef } from "../../shared/contract/message.ts";
import type { DeliveryQuery } from "../../shared/store/store.ts";
import type { ApiDeps } from "../deps.ts";
import { parsedDate } from "../http/dates.ts";
import { handOver } from "../redeliver.ts";

type Deps = Pick<ApiDeps, "store" | "tasks" | "config">;
type Chosen = { since: string; mailbox?: string | undefined; state: NonNullable<DeliveryQuery["state"]> };

const PAGE = 500;

/** Orders another attempt of each delivery; resolves once all orders are safe. */
export async function replay(deps: Deps, deliveries: Delivery[]): Promise<void> {
  const folders = new Map<string, { mailbox: string; messages: MessageRef[] }>();
  for (const delivery of deliveries) {
    const { id, mailbox, ref, state, spooled } = delivery;
    if (spooled && state !== "delivered") {
      await dueNow(deps, delivery);
      await deps.tasks.send({ version: 1, kind: "redeliver", mailbox, delivery: id });
      continue;
    }
    const key = JSON.stringify([mailbox, ref.folder, ref.epoch]);
    const folder = folders.get(key) ?? { mailbox, messages: [] };
    folder.messages.push(ref);
    folders.set(key, folder);
  }
  for (const { mailbox, messages } of folders.values()) await handOver(deps, mailbox, messages, true);
}

/** A replayed delivery has all of RETRY_HOURS before it again. */
async function dueNow({ store, config }: Deps, delivery: Delivery): Promise<void> {
  const now = Date.now();
  const giveUpAt = new Date(now + config.RETRY_HOURS * 3_600_000).toISOString();
  await store.deliveries.save({ ...delivery, state: "retrying", nextAttemptAt: new Date(now).toISOString(), giveUpAt });
}

/** Replays all deliveries of that choice and resolves with their number. */
export async function replaySince(deps: Deps, chosen: Chosen): Promise<number> {
  const { state, mailbox } = chosen;
  const query = { limit: PAGE, state, since: parsedDate(chosen.since).toISOString(), ...(mailbox && { mailbox }) };
  // Collected before the first order: a replayed delivery changes its state, which would shift the pages behind it.
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
