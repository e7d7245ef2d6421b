/** Searches the deliveries for a text, over as many pages of the store as one request may take. */
import { setImmediate } from "node:timers/promises";
import type { Delivery } from "../../shared/contract/delivery.ts";
import type { DeliveryQuery } from "../../shared/store/delivery-search.ts";
import type { Deliveries, Page } from "../../shared/store/store.ts";
import { clock } from "../../shared/time.ts";

const SEARCH_MS = 2_000;

/** Up to `limit` deliveries. There are fewer although `next` is set when the time was over. */
export async function searchDeliveries(
  deliveries: Pick<Deliveries, "list">,
  query: DeliveryQuery & { text: string },
): Promise<Page<Delivery>> {
  const until = clock.monotonic() + SEARCH_MS;
  const items: Delivery[] = [];
  for (let cursor = query.cursor; ;) {
    const rest = { ...query, limit: query.limit - items.length };
    const page = await deliveries.list(cursor === undefined ? rest : { ...rest, cursor });
    items.push(...page.items);
    if (page.next === null || items.length >= query.limit || clock.monotonic() >= until) return { ...page, items };
    cursor = page.next;
    await setImmediate();
  }
}
