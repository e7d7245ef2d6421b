/** Handing messages over once more, past the cursor: for a resync and for replaying what was delivered. */
import type { MessageRef } from "../shared/contract/message.ts";
import type { ApiDeps } from "./deps.ts";

/** Small enough to share workers fairly, large enough for one FETCH. */
const BATCH = 100;

/**
 * Puts the messages (all of one folder) back into the ledger's care and orders their delivery; resolves once the tasks are
 * safe. `again` delivers also what was delivered before.
 */
export async function handOver(
  { store, tasks }: Pick<ApiDeps, "store" | "tasks">,
  mailbox: string,
  messages: MessageRef[],
  again: boolean,
): Promise<void> {
  for (let start = 0; start < messages.length; start += BATCH) {
    const batch = messages.slice(start, start + BATCH);
    await store.cursors.reopen(mailbox, batch);
    await tasks.send({ version: 1, kind: "deliver", mailbox, messages: batch, again });
  }
}
