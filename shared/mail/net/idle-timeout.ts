/** The deadline of a conversation with a mail server: it limits the server's silence, not the size of its answer. */
import { Problem } from "../../contract/problem.ts";

/** How long the other side may be silent while it owes an answer, and how long the whole answer may take. */
export type IdleLimits = { idleMs: number; maxMs: number };

/**
 * Waits for `work` while bytes keep arriving, with a pause of at most `idleMs` between them and `maxMs` in all. After
 * that it calls `giveUp` with the `timeout` Problem, and throws it.
 */
export async function withIdleTimeout<T>(
  limits: IdleLimits & { received: () => number },
  what: string,
  work: Promise<T>,
  onTimeout: (problem: Problem) => void,
): Promise<T> {
  const { promise: timedOut, reject } = Promise.withResolvers<never>();
  const end = performance.now() + limits.maxMs;
  let lastReceived = limits.received();
  let lastReceivedAt = performance.now();
  const check = () => {
    const now = performance.now();
    const received = limits.received();
    if (received !== lastReceived) [lastReceived, lastReceivedAt] = [received, now];
    const idle = now - lastReceivedAt >= limits.idleMs;
    if (!idle && now < end) {
      timer = setTimeout(check, limits.idleMs / 4);
      return;
    }
    const cause = idle ? `said nothing for ${limits.idleMs / 1000} seconds` : "did not come to an end";
    const problem = new Problem("timeout", `${what}: the server ${cause}`);
    reject(problem);
    onTimeout(problem);
  };
  let timer = setTimeout(check, limits.idleMs / 4);
  work.catch(() => undefined);
  timedOut.catch(() => undefined);
  try {
    return await Promise.race([work, timedOut]);
  } finally {
    clearTimeout(timer);
  }
}
