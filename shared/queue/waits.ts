/** How long tasks wait until somebody takes them: what an administrator adds workers by. */

export type Waits = {
  /** A task that could have been taken since `readyAt` (ms since 1970) is taken now. */
  taken(readyAt: number): void;
  /** The longest wait in seconds, of the tasks taken in the last minute; 0 when there were none. */
  longest(): number;
};

const REMEMBERED_MS = 60_000;

/** Remembers only waits that are still the longest of all that came after them, so that it stays small. */
export function recentWaits(now: () => number = Date.now): Waits {
  let recent: { at: number; ms: number }[] = [];
  const forget = () => {
    const since = now() - REMEMBERED_MS;
    recent = recent.filter(({ at }) => at >= since);
  };
  return {
    taken(readyAt) {
      forget();
      const ms = Math.max(0, now() - readyAt);
      recent = [...recent.filter((one) => one.ms > ms), { at: now(), ms }];
    },
    longest() {
      forget();
      return (recent[0]?.ms ?? 0) / 1000;
    },
  };
}
