/** What is done to the deliveries in Redis now and then: old delivered records go, and the index is mended. */
import type { Delivery } from "../../contract/delivery.ts";
import type { RedisConnection } from "../redis-client.ts";
import { dropDelivered } from "../redis-deliveries.ts";
import { type DeliveryIndex, type Keyed, timeKey } from "../redis-delivery-index.ts";
import { rawKey, readDelivery } from "../redis-delivery-records.ts";
import type { RedisKeys } from "./keys.ts";
import { numberOf } from "../redis-reply.ts";

type Deps = { redis: RedisConnection; keys: RedisKeys; index: DeliveryIndex };

const PAGE = 500;

/** Drops delivered records last changed before a time (ms). */
export async function forgetDelivered(deps: Deps, before: number): Promise<void> {
  await eachPage(deps, "delivered", `(${timeKey(before)}`, async (page) => {
    const read = await Promise.all(page.map(({ mailbox, id }) => readDelivery(deps, mailbox, id)));
    const old = page.filter((_, n) => isOld(read[n], before));
    const byMailbox = Map.groupBy(old, ({ mailbox }) => mailbox);
    for (const [mailbox, some] of byMailbox)
      await dropDelivered(
        deps,
        mailbox,
        some.map(({ id }) => id),
      );
    await deps.index.forget(old.map(({ id }) => id));
  });
}

/** A record that is not there any more is old, one that waits again is not. */
function isOld(delivery: Delivery | undefined, before: number): boolean {
  return delivery === undefined || (delivery.state === "delivered" && Date.parse(delivery.updatedAt) < before);
}

/**
 * Compares what the index says is waiting with the deliveries themselves, and puts the index right where a crash came between the
 * two: a state that was not written, a spool that was reserved and not used. What changed while it was looked at is left alone.
 */
export async function mendIndex(deps: Deps): Promise<void> {
  for (const state of ["retrying", "parked"] as const) {
    await eachPage(deps, state, "+", async (page) => {
      for (const one of page) {
        const delivery = await readDelivery(deps, one.mailbox, one.id);
        if (delivery?.state === state) continue;
        await deps.redis.send("ping", []);
        const again = await readDelivery(deps, one.mailbox, one.id);
        if (again?.state === state) continue;
        if (again === undefined) await deps.index.forget([one.id]);
        else
          await deps.index.settle(
            again,
            numberOf(await deps.redis.send("strlen", [rawKey(deps.keys, one.mailbox, one.id)])),
            [],
          );
      }
    });
  }
}

async function eachPage(
  deps: Deps,
  state: Delivery["state"],
  to: string,
  work: (page: Keyed[]) => Promise<void>,
): Promise<void> {
  for (let from = "-"; ;) {
    const page = await deps.index.page({ state }, { from, to, limit: PAGE, oldestFirst: true });
    if (page.length > 0) await work(page);
    const last = page.at(-1);
    if (page.length < PAGE || last === undefined) return;
    from = `(${last.key}`;
  }
}
