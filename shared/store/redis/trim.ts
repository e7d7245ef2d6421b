/** Regular maintenance of the deliveries in Redis: deletes old delivered records and corrects the index. */
import type { Delivery } from "../../contract/delivery.ts";
import type { RedisConnection } from "./connection/client.ts";
import { dropDelivered } from "./deliveries/deliveries.ts";
import { type DeliveryIndex, type IndexedDelivery, timeKey } from "./deliveries/indexes.ts";
import { rawBytesKey, readDelivery } from "./deliveries/records.ts";
import type { RedisKeys } from "./keys.ts";
import { numberOf } from "./connection/reply.ts";

type RedisTrimDeps = { redis: RedisConnection; keys: RedisKeys; index: DeliveryIndex };

const PAGE_SIZE = 500;

/** Deletes delivered records that last changed before a time (ms). */
export async function pruneDelivered(deps: RedisTrimDeps, before: number): Promise<void> {
  await forEachPage(deps, "delivered", `(${timeKey(before)}`, async (page) => {
    const read = await Promise.all(page.map(({ mailbox, id }) => readDelivery(deps, mailbox, id)));
    const old = page.filter((_, n) => isOld(read[n], before));
    const byMailbox = Map.groupBy(old, ({ mailbox }) => mailbox);
    for (const [mailbox, located] of byMailbox)
      await dropDelivered(
        deps,
        mailbox,
        located.map(({ id }) => id),
      );
    await deps.index.remove(old.map(({ id }) => id));
  });
}

/** A record that no longer exists counts as old. One that is retrying again does not. */
function isOld(delivery: Delivery | undefined, before: number): boolean {
  return delivery === undefined || (delivery.state === "delivered" && Date.parse(delivery.updatedAt) < before);
}

/**
 * Compares the waiting deliveries of the index with the deliveries themselves. Corrects the index where a crash came
 * between two writes: a state that was not written, or spool space that was reserved and not used. It leaves alone what
 * changed meanwhile.
 */
export async function repairIndex(deps: RedisTrimDeps): Promise<void> {
  for (const state of ["retrying", "parked"] as const) {
    await forEachPage(deps, state, "+", async (page) => {
      for (const one of page) {
        const delivery = await readDelivery(deps, one.mailbox, one.id);
        if (delivery?.state === state) continue;
        await deps.redis.send("ping", []);
        const reread = await readDelivery(deps, one.mailbox, one.id);
        if (reread?.state === state) continue;
        if (reread === undefined) await deps.index.remove([one.id]);
        else
          await deps.index.confirm(
            reread,
            numberOf(await deps.redis.send("strlen", [rawBytesKey(deps.keys, one.mailbox, one.id)])),
            [],
          );
      }
    });
  }
}

async function forEachPage(
  deps: RedisTrimDeps,
  state: Delivery["state"],
  to: string,
  work: (page: IndexedDelivery[]) => Promise<void>,
): Promise<void> {
  for (let from = "-"; ;) {
    const page = await deps.index.listPage({ state }, { from, to, limit: PAGE_SIZE, oldestFirst: true });
    if (page.length > 0) await work(page);
    const last = page.at(-1);
    if (page.length < PAGE_SIZE || last === undefined) return;
    from = `(${last.key}`;
  }
}
