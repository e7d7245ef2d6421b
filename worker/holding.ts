/** Holding on to what was taken for a short time only, so that after a crash others need not wait long for it. */
import { slept } from "../shared/time.ts";

/** For how long messages and deliveries are taken. What takes longer is kept, again and again, until it is done. */
export const TAKEN_MS = 30_000;

/**
 * Runs `work` and calls `keep` every third of TAKEN_MS meanwhile. A `keep` that fails is tried again with the next: should all fail,
 * somebody else may take up the same work, and the endpoint hears of the same delivery id twice.
 */
export async function holding<T>(keep: () => Promise<void>, work: () => Promise<T>): Promise<T> {
  const over = new AbortController();
  const kept = (async () => {
    while (await slept(TAKEN_MS / 3, over.signal)) await keep().catch(() => undefined);
  })();
  try {
    return await work();
  } finally {
    over.abort();
    await kept;
  }
}
