/** The admission gate: connections to one mail host are opened one after the other at a bounded rate, so that a restart of thousands of mailboxes is no login storm. */
import { jittered, slept } from "../time.ts";

/** Resolves when a connection to `host` may be opened; throws the signal's reason when it aborts first. */
export type Admission = (host: string, signal: AbortSignal) => Promise<void>;

/**
 * Admits `perSecond` connections to each host. A burst of up to one second's worth passes at once after a quiet time; what
 * comes beyond queues in order of arrival, jittered. Hosts unused for a minute are forgotten.
 */
export function admission(perSecond: number): Admission {
  const gap = 1000 / perSecond;
  const burst = Math.max(1, Math.floor(perSecond));
  const nextFree = new Map<string, number>();
  return async (host, signal) => {
    const now = performance.now();
    const earliest = now - (burst - 1) * gap;
    const slot = Math.max(nextFree.get(host) ?? earliest, earliest);
    nextFree.set(host, slot + gap);
    if (nextFree.size > 1000) forgetOld(nextFree, now - 60_000);
    const wait = slot - now;
    if (wait > 0) await slept(jittered(wait), signal);
    signal.throwIfAborted();
  };
}

function forgetOld(nextFree: Map<string, number>, before: number): void {
  for (const [host, at] of nextFree) if (at < before) nextFree.delete(host);
}
