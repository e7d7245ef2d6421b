/** What is known of the connection of a mailbox, as the API and the console show it. Nothing is asked of the mail server. */
import * as v from "valibot";
import { ConnectionFacts } from "../../shared/contract/learned.ts";
import { CONNECTED_STATUSES } from "../../shared/contract/mailbox.ts";
import type { MailboxWithState, Store } from "../../shared/store/store.ts";

export const ConnectionView = v.object({
  ...ConnectionFacts.entries,
  connections: v.pipe(
    v.number(),
    v.description(
      "How many connections the service has for the mailbox now: that of its subscription, and those of workers. By Exchange Web Services and Graph they are sessions, which share connections.",
    ),
  ),
  throttledUntil: v.pipe(
    v.nullable(v.string()),
    v.description("The server asked the service to wait until then. Null if it did not."),
  ),
});
export type ConnectionView = v.InferOutput<typeof ConnectionView>;

/** Undefined if the mailbox was never connected. */
export async function readConnection(
  { connections, connectionSlots }: Pick<Store, "connections" | "connectionSlots">,
  { mailbox: { id }, state }: MailboxWithState,
): Promise<ConnectionView | undefined> {
  const [facts, workers] = await Promise.all([connections.read(id), connectionSlots.count(id)]);
  if (!facts) return undefined;
  const { status, problem } = state;
  const throttledUntil = status === "throttled" ? (problem?.retryAt ?? null) : null;
  return { ...facts, connections: workers + Number(CONNECTED_STATUSES.includes(status)), throttledUntil };
}
