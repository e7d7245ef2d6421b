/** Hands messages over again that lie at or below the cursor: for a resync and for replaying delivered messages. */
import type { MessageRef } from "../shared/contract/message.ts";
import type { ApiDeps } from "./deps.ts";

/** Small enough to share workers fairly, large enough for one FETCH. */
const BATCH_SIZE = 100;

/**
 * Adds the messages (all of one folder) to the ledger as free and sends their `deliver` tasks. Resolves once the tasks
 * are safe. With `again` also what was delivered before is delivered. `replays` names by uid the deliveries that are
 * replayed.
 */
export async function redeliver(
  { store, tasks }: Pick<ApiDeps, "store" | "tasks">,
  mailbox: string,
  messages: MessageRef[],
  again: boolean,
  replays: Record<string, string> = {},
): Promise<void> {
  for (let start = 0; start < messages.length; start += BATCH_SIZE) {
    const batch = messages.slice(start, start + BATCH_SIZE);
    await store.cursors.reopen(mailbox, batch);
    await tasks.send({ version: 1, kind: "deliver", mailbox, messages: batch, again, replays });
  }
}
