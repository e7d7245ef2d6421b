/**
 * Turns for copies of one message that go to the same endpoint from several mailboxes: one at a time, and a moment apart. Who
 * comes too early is told when to come again, so that nobody waits holding a place.
 */

export type Turn =
  /** Go ahead; call `done` exactly once when the endpoint has answered. */
  { kind: "go"; done: () => void } | { kind: "wait"; until: Date };

export interface Turns {
  take(key: string): Turn;
}

type Place = { busy: boolean; freeAt: number; lastSlot: number };

const APART_MS = 1_000;
/** A turn whose owner never said done is free again after this. */
const LOST_MS = 120_000;
const SWEEP_AT = 1_000;

/** Turns of this process. The slots given out are a moment apart as well, in the order of asking. */
export function turns(now: () => number = Date.now, apartMs = APART_MS): Turns {
  const places = new Map<string, Place>();
  let sweepAt = SWEEP_AT;

  const sweep = () => {
    if (places.size < sweepAt) return;
    for (const [key, { busy, freeAt, lastSlot }] of places) {
      if (!busy && Math.max(freeAt, lastSlot) < now()) places.delete(key);
    }
    sweepAt = Math.max(SWEEP_AT, places.size * 2);
  };

  return {
    take(key) {
      sweep();
      const at = now();
      const place = places.get(key);
      const free = !place || at >= (place.busy ? place.freeAt + LOST_MS : place.freeAt);
      if (!free) {
        place.lastSlot = Math.max(place.lastSlot, place.freeAt, at) + apartMs;
        return { kind: "wait", until: new Date(place.lastSlot) };
      }
      const taken: Place = { busy: true, freeAt: at, lastSlot: place?.lastSlot ?? at };
      places.set(key, taken);
      return {
        kind: "go",
        done() {
          taken.busy = false;
          taken.freeAt = now() + apartMs;
        },
      };
    },
  };
}
