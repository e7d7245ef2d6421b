/** Waiting in tests: for a condition to come true, with a deadline and a message that says what was there instead. */
import { setTimeout as sleep } from "node:timers/promises";

/** Wakes everyone who waits for something to be found whenever the world has changed. */
export type WaitingRoom = {
  wake(): void;
  /** Resolves with the first value `find` returns that is not undefined; rejects with what it throws, or with `explain()` at the deadline. */
  until<Found>(find: () => Found | undefined, timeoutMs: number, explain: () => string): Promise<Found>;
};

/** A place to wait for changes that somebody announces with `wake`. */
export function waitingRoom(): WaitingRoom {
  const waiting = new Set<() => void>();
  return {
    wake: () => {
      for (const look of waiting) look();
    },
    until: (find, timeoutMs, explain) =>
      new Promise((resolve, reject) => {
        const over = (): void => {
          waiting.delete(look);
          clearTimeout(timer);
        };
        const timer = setTimeout(() => {
          over();
          reject(new Error(`${explain()} (after ${timeoutMs} ms)`));
        }, timeoutMs);
        const look = (): void => {
          try {
            const found = find();
            if (found === undefined) return;
            over();
            resolve(found);
          } catch (error) {
            over();
            reject(error);
          }
        };
        waiting.add(look);
        look();
      }),
  };
}

/** Asks every `everyMs` until `find` returns something other than undefined and false; rejects at the deadline. */
export async function eventually<Found>(
  find: () => Found | undefined | false | Promise<Found | undefined | false>,
  what: string,
  timeoutMs = 60_000,
  everyMs = 20,
): Promise<Found> {
  const deadline = performance.now() + timeoutMs;
  while (performance.now() < deadline) {
    const found = await find();
    if (found !== undefined && found !== false) return found;
    await sleep(everyMs);
  }
  throw new Error(`Waited ${timeoutMs} ms in vain for ${what}`);
}

/** Counts equal words: "3 x answered 200, 1 x answered 500". */
export function tally(words: string[]): string {
  const counts = new Map<string, number>();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].map(([word, count]) => `${count} x ${word}`).join(", ");
}
