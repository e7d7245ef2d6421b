/** Waking a loop at once instead of polling. */

export type Bell = {
  ring(): void;
  /** Resolves at the next ring (at once if it rang since the last time), at the time given, or when the signal aborts. */
  heard(at: number | undefined, signal: AbortSignal): Promise<void>;
};

/** Wall clocks are set now and then, and timers cannot wait longer than 24 days: a look each half minute costs nothing. */
const LONGEST_MS = 30_000;

export function bell(): Bell {
  let rang = false;
  let answer: (() => void) | undefined;
  return {
    ring() {
      rang = true;
      answer?.();
    },
    heard(at, signal) {
      return new Promise((resolve) => {
        const done = () => {
          clearTimeout(timer);
          signal.removeEventListener("abort", done);
          answer = undefined;
          rang = false;
          resolve();
        };
        const ms = at === undefined ? LONGEST_MS : Math.min(LONGEST_MS, Math.max(0, at - Date.now()));
        const timer = setTimeout(done, ms);
        signal.addEventListener("abort", done, { once: true });
        answer = done;
        if (rang || signal.aborted) done();
      });
    },
  };
}
