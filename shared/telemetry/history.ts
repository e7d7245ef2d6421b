/** Each mailbox's history: the facts that name a mailbox, written to the store in batches. */
import { asProblem } from "../contract/problem.ts";
import { sleep, withTimeout } from "../time.ts";
import type { Fact, Facts } from "./events.ts";

const FLUSH_INTERVAL_MS = 1000;
/** Facts that may wait while the store does not answer. Above this number the oldest are lost, and a fact says so. */
const MAX_WAITING = 10_000;
const BATCH = 1000;
const WRITE_MS = 10_000;

type HistoryDeps = { facts: Facts; append: (facts: Fact[]) => Promise<void> };

/**
 * A part that writes each mailbox's history until the signal aborts. Before it resolves, it writes all facts up to
 * then. A failing store is reported once, and waiting facts are written when it answers again.
 */
export function history(deps: HistoryDeps): { name: string; run: (signal: AbortSignal) => Promise<void> } {
  return { name: "history", run: (signal) => recordHistory(deps, signal) };
}

async function recordHistory({ facts, append }: HistoryDeps, signal: AbortSignal): Promise<void> {
  const waiting: Fact[] = [];
  let lost = 0;
  let failing = false;
  const unsubscribe = facts.subscribe((fact) => {
    if (!("mailbox" in fact)) return;
    waiting.push(fact);
    if (waiting.length > MAX_WAITING) lost += waiting.splice(0, BATCH).length;
  });
  const report = (error: unknown) => {
    const { code, message } = asProblem(error);
    const what = lost > 0 ? `the history of mailboxes (${lost} facts are lost)` : "the history of mailboxes";
    facts.emit({ kind: "service.failed", what, failure: { code, cause: message } });
  };
  const flush = async () => {
    try {
      while (waiting.length > 0) {
        const batch = waiting.slice(0, BATCH);
        await withTimeout(WRITE_MS, "Writing the history of mailboxes", append(batch));
        removeWritten(waiting, batch);
      }
      failing = false;
      lost = 0;
    } catch (error) {
      if (!failing) report(error);
      failing = true;
    }
  };
  while (await sleep(FLUSH_INTERVAL_MS, signal)) await flush();
  unsubscribe();
  await flush();
}

/** Removes what was written. Meanwhile the oldest of it may have been dropped already. */
function removeWritten(waiting: Fact[], written: Fact[]): void {
  const last = written.at(-1);
  const at = last === undefined ? -1 : waiting.indexOf(last);
  waiting.splice(0, at + 1);
}
