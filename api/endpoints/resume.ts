/** Makes the deliveries due that waited because a person had paused their endpoint. */
import { isHeld } from "../../shared/store/endpoint-pauses.ts";
import type { Store } from "../../shared/store/store.ts";
import type { ApiDeps } from "../deps.ts";

/** More of them come within the time after which a paused endpoint is looked at again. */
const MAX_BROUGHT_FORWARD = 5_000;

/** Sends a task for each, oldest first. Resolves with their number. */
export async function bringHeldForward(
  { store, tasks }: { store: Pick<Store, "deliveries">; tasks: ApiDeps["tasks"] },
  { url, mailboxPrefix }: { url: string; mailboxPrefix: string },
): Promise<number> {
  const endpoint = new URL(url).origin;
  const retrying = await store.deliveries.listRetrying({ endpoint, limit: MAX_BROUGHT_FORWARD });
  const held = retrying.filter((one) => isHeld(one) && one.mailbox.startsWith(mailboxPrefix));
  for (const { id, mailbox } of held)
    await tasks.send({ version: 1, kind: "redeliver", mailbox, delivery: id, early: true });
  return held.length;
}
