/** Each mailbox's history: the facts that name a mailbox, written to the store in batches. */
import { asProblem } from "../contract/problem.ts";
import { slept, within } from "../time.ts";
import type { Fact, Facts } from "./events.ts";

const EVERY_MS = 1000;
/** Facts that may wait for a store that does not answer; after that the oldest are lost, and said to be. */
const MOST_WAITING = 10_000;
const BATCH = 1000;
const WRITE_MS = 10_000;

type Deps = { facts: Facts; append: (facts: Fact[]) => Promise<void> };

/**
 * A part that keeps each mailbox's history from when it runs until the signal aborts; what came until then is written before it
 * resolves. A store that fails is reported once, and what waited is written when it answers again.
 */
export function history(deps: Deps): { name: string; run: (signal: AbortSignal) => Promise<void> } {
  return { name: "history", run: (signal) => keep(deps, signal) };
}

async function keep({ facts, append }: Deps, signal: AbortSignal): Promise<void> {
  const waiting: Fact[] = [];
  let lost = 0;
  let failing = false;
  const unsubscribe = facts.subscribe((fact) => {
    if (!("mailbox" in fact)) return;
    waiting.push(fact);
    if (waiting.length > MOST_WAITING) lost += waiting.splice(0, BATCH).length;
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
        await within(WRITE_MS, "Writing the history of mailboxes", append(batch));
        remove(waiting, batch);
      }
      failing = false;
      lost = 0;
    } catch (error) {
      if (!failing) report(error);
      failing = true;
    }
  };
  while (await slept(EVERY_MS, signal)) await flush();
  unsubscribe();
  await flush();
}

/** Takes out what was written; meanwhile the oldest of it may have been pushed out already. */
function remove(waiting: Fact[], written: Fact[]): void {
  const last = written.at(-1);
  const at = last === undefined ? -1 : waiting.indexOf(last);
  waiting.splice(0, at + 1);
}
