/**
 * Decides when a CRM must learn about a mailbox's state, and sends a `callback` task: for a lasting change, and for a
 * login that needs a new token.
 */
import { asProblem } from "../../../shared/contract/problem.ts";
import type { TaskSender } from "../../../shared/queue/queue.ts";
import type { Part } from "../../../shared/run.ts";
import type { Fact } from "../../../shared/telemetry/events.ts";
import { clock, sleep } from "../../../shared/time.ts";
import type { ApiDeps } from "../../deps.ts";

type CallbackSchedulerDeps = Pick<ApiDeps, "store" | "facts"> & { tasks: TaskSender };

/** A state is written a moment after it was reported. A state that does not last this long is not worth a callback. */
const SETTLED_MS = 1_000;
const PAGE = 500;
/** How many tasks are sent at the same time. */
const AT_ONCE = 50;

/**
 * Sends a `callback` task for each CRM mailbox whose state may have changed, and checks all of them once at the start.
 * The task itself decides whether there is anything to report, by the last report that the CRM accepted. So one task
 * too many does no harm.
 */
export function callbackScheduler({ store, tasks, facts }: CallbackSchedulerDeps): Part {
  const scheduleCallback = async (mailbox: string, signal?: AbortSignal) => {
    const found = await store.mailboxes.get(mailbox);
    if (found?.mailbox.deliver.dialect !== "creatio") return;
    const notBefore = new Date(clock.now() + SETTLED_MS);
    await tasks.send({ version: 1, kind: "callback", mailbox }, { notBefore }, signal);
  };

  const run = async (signal: AbortSignal) => {
    const pending = new Set<string>();
    const unsubscribe = facts.subscribe((fact) => {
      const mailbox = mailboxToNotify(fact);
      if (mailbox !== undefined) pending.add(mailbox);
    });
    const scheduleOne = async (mailbox: string) => {
      // A state that is reported from here on needs its own callback.
      pending.delete(mailbox);
      await scheduleCallback(mailbox, signal.aborted ? undefined : signal).catch((error: unknown) => {
        pending.add(mailbox);
        throw error;
      });
    };
    /** If one mailbox fails, the others still get their turn. */
    const scheduleAll = async () => {
      const mailboxes = Array.from(pending);
      for (let from = 0; from < mailboxes.length; from += AT_ONCE) {
        const results = await Promise.allSettled(mailboxes.slice(from, from + AT_ONCE).map(scheduleOne));
        const failed = results.find(({ status }) => status === "rejected");
        if (failed?.status === "rejected") reportFailure(facts, failed.reason);
      }
    };
    try {
      await forEachCreatioMailbox(store, (id) => pending.add(id)).catch((error: unknown) =>
        reportFailure(facts, error),
      );
      do await scheduleAll();
      while (await sleep(SETTLED_MS, signal));
      await scheduleAll();
    } finally {
      unsubscribe();
    }
  };
  return { name: "news for CRMs", run };
}

/** The mailbox whose state this fact may have changed for good, or whose token it reports as expired. */
function mailboxToNotify(fact: Fact): string | undefined {
  if (fact.kind === "mailbox.status") {
    const login = fact.failure?.code === "auth" || fact.failure?.code === "token";
    const settled = ["listening", "polling", "needs_attention"].includes(fact.status);
    return settled || login ? fact.mailbox : undefined;
  }
  const tokenExpired =
    fact.kind === "mailbox.disconnected" && (fact.failure.code === "auth" || fact.failure.code === "token");
  return tokenExpired ? fact.mailbox : undefined;
}

/** Every CRM mailbox with a lasting state from before this process started that was not reported to its CRM. */
async function forEachCreatioMailbox(
  store: CallbackSchedulerDeps["store"],
  visit: (id: string) => void,
): Promise<void> {
  let cursor: string | undefined;
  do {
    const page = await store.mailboxes.list({ limit: PAGE, ...(cursor !== undefined && { cursor }) });
    for (const { mailbox } of page.items) if (mailbox.deliver.dialect === "creatio") visit(mailbox.id);
    cursor = page.next ?? undefined;
  } while (cursor !== undefined);
}

function reportFailure(facts: CallbackSchedulerDeps["facts"], error: unknown): void {
  const { code, message } = asProblem(error);
  facts.emit({ kind: "service.failed", what: "sending callback tasks for CRMs", failure: { code, cause: message } });
}
