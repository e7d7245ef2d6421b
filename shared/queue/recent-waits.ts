/** How long tasks wait until a worker takes them. An administrator needs it to choose the number of workers. */
import { clock } from "../time.ts";

export type RecentWaits = {
  /** A task that was ready since `readyAt` (ms since 1970) starts now. */
  record(readyAt: number): void;
  /** The longest wait in seconds of the tasks that started in the last minute; 0 if there were none. */
  longestSeconds(): number;
};

const WINDOW_MS = 60_000;

/** Remembers only waits that are longer than all that came after them, so it stays small. */
export function recentWaits(now: () => number = clock.now): RecentWaits {
  let recent: { at: number; ms: number }[] = [];
  const dropOld = () => {
    const since = now() - WINDOW_MS;
    recent = recent.filter(({ at }) => at >= since);
  };
  return {
    record(readyAt) {
      dropOld();
      const ms = Math.max(0, now() - readyAt);
      recent = [...recent.filter((one) => one.ms > ms), { at: now(), ms }];
    },
    longestSeconds() {
      dropOld();
      return (recent[0]?.ms ?? 0) / 1000;
    },
  };
}
