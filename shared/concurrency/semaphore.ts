/** At most so many at once; the others wait in order. */

export type Limit = {
  /**
   * Resolves with a function that gives the place back. Whoever has waited `ms` is refused with `late()`, and when the signal
   * aborts, with its reason.
   */
  enter(until: { ms: number; late: () => Error } | { signal: AbortSignal }): Promise<() => void>;
};

export function limit(size: number): Limit {
  const waiting = new Set<() => void>();
  let free = size;
  const leave = () => {
    free += 1;
    const [next] = waiting;
    next?.();
  };
  return {
    enter(until) {
      return new Promise((resolve, reject) => {
        const end = new AbortController();
        const go = () => {
          waiting.delete(go);
          end.abort();
          free -= 1;
          resolve(leave);
        };
        const refuse = (why: unknown) => {
          waiting.delete(go);
          end.abort();
          reject(why);
        };
        if ("signal" in until && until.signal.aborted) return refuse(until.signal.reason);
        if (free > 0) return go();
        waiting.add(go);
        if ("signal" in until) {
          until.signal.addEventListener("abort", () => refuse(until.signal.reason), { once: true, signal: end.signal });
        } else {
          const timer = setTimeout(() => refuse(until.late()), until.ms);
          end.signal.addEventListener("abort", () => clearTimeout(timer));
        }
      });
    },
  };
}
