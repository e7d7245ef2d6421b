/** Watches how mailboxes are doing and orders that their CRMs hear of it: what changed for good, and a login that a new token would mend. */
import { asProblem } from "../../../shared/contract/problem.ts";
import type { TaskSender } from "../../../shared/queue/queue.ts";
import type { Part } from "../../../shared/run.ts";
import type { Fact } from "../../../shared/telemetry/events.ts";
import { slept } from "../../../shared/time.ts";
import type { ApiDeps } from "../../deps.ts";

type Deps = Pick<ApiDeps, "store" | "facts"> & { tasks: TaskSender };

/** States are written a moment after they are said; a state that does not last that long is not worth telling. */
const SETTLED_MS = 1_000;
const PAGE = 500;

/**
 * Sends a `tell` task for each mailbox of a CRM whose state may be news, and looks through all of them once at the start. Whether
 * there is anything to say is decided when the task is done, by what the CRM heard last, so one order too many does no harm.
 */
export function tellers({ store, tasks, facts }: Deps): Part {
  const order = async (mailbox: string) => {
    const found = await store.mailboxes.get(mailbox);
    if (found?.mailbox.deliver.dialect !== "creatio") return;
    await tasks.send({ version: 1, kind: "tell", mailbox }, { notBefore: new Date(Date.now() + SETTLED_MS) });
  };

  const run = async (signal: AbortSignal) => {
    const waiting = new Set<string>();
    const unsubscribe = facts.subscribe((fact) => {
      const mailbox = mayBeNews(fact);
      if (mailbox !== undefined) waiting.add(mailbox);
    });
    const orderAll = async () => {
      for (const mailbox of Array.from(waiting)) {
        // What is said from here on is news again.
        waiting.delete(mailbox);
        await order(mailbox).catch((error: unknown) => {
          waiting.add(mailbox);
          throw error;
        });
      }
    };
    try {
      await all(store, (id) => waiting.add(id)).catch((error: unknown) => report(facts, error));
      do await orderAll().catch((error: unknown) => report(facts, error));
      while (await slept(SETTLED_MS, signal));
      await orderAll().catch((error: unknown) => report(facts, error));
    } finally {
      unsubscribe();
    }
  };
  return { name: "news for CRMs", run };
}

/** The mailbox whose state this fact may have changed for good, or whose token it says is over. */
function mayBeNews(fact: Fact): string | undefined {
  if (fact.kind === "mailbox.status") {
    const login = fact.failure?.code === "auth" || fact.failure?.code === "token";
    const settled = ["listening", "polling", "needs_attention"].includes(fact.status);
    return settled || login ? fact.mailbox : undefined;
  }
  const again = fact.kind === "mailbox.disconnected" && (fact.failure.code === "auth" || fact.failure.code === "token");
  return again ? fact.mailbox : undefined;
}

/** Every mailbox of a CRM that settled in a state its CRM did not hear, from before this process was there to listen. */
async function all(store: Deps["store"], found: (id: string) => void): Promise<void> {
  let cursor: string | undefined;
  do {
    const page = await store.mailboxes.list({ limit: PAGE, ...(cursor !== undefined && { cursor }) });
    for (const { mailbox } of page.items) if (mailbox.deliver.dialect === "creatio") found(mailbox.id);
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
}

function report(facts: Deps["facts"], error: unknown): void {
  const { code, message } = asProblem(error);
  facts.emit({ kind: "service.failed", what: "ordering news for CRMs", failure: { code, cause: message } });
}
