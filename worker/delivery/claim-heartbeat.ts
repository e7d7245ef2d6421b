/** Holding on to what was taken for a short time only, so that after a crash others need not wait long for it. */
import { slept } from "../../shared/time.ts";

/** When to look again at what somebody else has: several times before he must have died. */
export function lookAgainMs(takenMs: number): number {
  return takenMs / 6;
}

/**
 * Runs `work` and calls `keep` every third of the time for which it was taken, until it is done. A `keep` that fails is tried again with the next: should all fail,
 * somebody else may take up the same work, and the endpoint hears of the same delivery id twice.
 */
export async function holding<T>(takenMs: number, keep: () => Promise<void>, work: () => Promise<T>): Promise<T> {
  const over = new AbortController();
  const kept = (async () => {
    while (await slept(takenMs / 3, over.signal)) await keep().catch(() => undefined);
  })();
  try {
    return await work();
  } finally {
    over.abort();
    await kept;
  }
}
