/** The deadline of a conversation with a mail server: its silence, not its size. */
import { Problem } from "../../contract/problem.ts";

/** How long the other side may be silent while it owes something, and how long all of it may take. */
export type Limits = { quietMs: number; capMs: number };

/**
 * Waits for `work` as long as bytes keep coming, with a pause of at most `quietMs` between them and `capMs` in all; past that
 * `giveUp` is called with the `timeout` Problem that is thrown.
 */
export async function patiently<T>(
  limits: Limits & { received: () => number },
  what: string,
  work: Promise<T>,
  giveUp: (problem: Problem) => void,
): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const end = performance.now() + limits.capMs;
  let heard = limits.received();
  let heardAt = performance.now();
  const check = () => {
    const now = performance.now();
    const received = limits.received();
    if (received !== heard) [heard, heardAt] = [received, now];
    const quiet = now - heardAt >= limits.quietMs;
    if (!quiet && now < end) {
      timer = setTimeout(check, limits.quietMs / 4);
      return;
    }
    const cause = quiet ? `said nothing for ${limits.quietMs / 1000} seconds` : "did not come to an end";
    const problem = new Problem("timeout", `${what}: the server ${cause}`);
    reject(problem);
    giveUp(problem);
  };
  let timer = setTimeout(check, limits.quietMs / 4);
  work.catch(() => undefined);
  late.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
