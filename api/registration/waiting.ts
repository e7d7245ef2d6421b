/** Makes the deliveries of a mailbox due that waited for an endpoint which has changed now. */
import { asProblem } from "../../shared/contract/problem.ts";
import type { ScopedDeps } from "../scoped-deps.ts";

const PAGE = 200;
/** More of them come at their own time. */
const MAX_BROUGHT_FORWARD = 5_000;

/**
 * Sends a task for each delivery of this mailbox that waits, newest first. If the queue does not take them, they come at
 * their own time.
 */
export async function bringWaitingForward(
  { store, tasks, facts }: Pick<ScopedDeps, "store" | "tasks" | "facts">,
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
