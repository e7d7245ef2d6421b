/** Renews claims while work goes on. Claims are short, so that others need not wait long after a crash. */
import { sleep } from "../../shared/time.ts";

/** When to check again what another worker has claimed: several times before the claim would expire. */
export function recheckDelayMs(claimMs: number): number {
  return claimMs / 6;
}

/**
 * Runs `work` and calls `renew` every third of the claim's time until the work is done. A failed `renew` is tried again
 * with the next one. If all fail, another worker may do the same work, and the endpoint gets the same delivery id
 * twice.
 */
export async function withClaimHeartbeat<T>(
  claimMs: number,
  renew: () => Promise<void>,
  work: () => Promise<T>,
): Promise<T> {
  const finished = new AbortController();
  const heartbeat = (async () => {
    while (await sleep(claimMs / 3, finished.signal)) await renew().catch(() => undefined);
  })();
  try {
    return await work();
  } finally {
    finished.abort();
    await heartbeat;
  }
}
