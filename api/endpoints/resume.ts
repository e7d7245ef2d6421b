/** Makes deliveries due that waited for something that a person has changed now: the pause of their endpoint, or the endpoint. */
import { asProblem } from "../../shared/contract/problem.ts";
import { isHeld } from "../../shared/store/endpoint-pauses.ts";
import type { Store } from "../../shared/store/store.ts";
import type { ApiDeps } from "../deps.ts";

const PAGE = 200;
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

/**
 * Sends a task for each delivery of this mailbox that waits, newest first. If the queue does not take them, they come at
 * their own time.
 */
export async function bringWaitingForward(
  {
    store,
    tasks,
    facts,
  }: { store: Pick<Store, "deliveries">; tasks: ApiDeps["tasks"]; facts: Pick<ApiDeps["facts"], "emit"> },
  mailbox: string,
): Promise<void> {
  let cursor: string | undefined;
  try {
    for (let seen = 0; seen < MAX_BROUGHT_FORWARD; seen += PAGE) {
      const query = { mailbox, state: "retrying", limit: PAGE } as const;
      const { items, next } = await store.deliveries.list(cursor === undefined ? query : { ...query, cursor });
      for (const { id } of items)
        await tasks.send({ version: 1, kind: "redeliver", mailbox, delivery: id, early: true });
      if (next === null) return;
      cursor = next;
    }
  } catch (error) {
    const { code, message } = asProblem(error);
    facts.emit({
      kind: "service.failed",
      what: `making the deliveries of ${mailbox} due`,
      failure: { code, cause: message },
    });
  }
}
