/**
 * Turns for copies of one message that go to the same endpoint from several mailboxes: one at a time, and a moment apart. Who
 * comes too early is told when to come again, so that nobody waits holding a place.
 */
import { createHash } from "node:crypto";
import type { Seats } from "../../shared/store/store.ts";
import { jittered } from "../../shared/time.ts";

/** Go ahead, and call `done` exactly once when the endpoint has answered; or come again. */
type Turn<Done> = { kind: "go"; done: () => Done } | { kind: "wait"; until: Date };

type LocalTurns = { take(key: string): Turn<void> };

export interface Turns {
  take(key: string): Promise<Turn<Promise<void>>>;
}

type Place = { busy: boolean; freeAt: number; lastSlot: number };

const APART_MS = 1_000;
/** A turn whose owner never said done is free again after this. */
const LOST_MS = 120_000;
const SWEEP_AT = 1_000;

/** Turns of this process. The slots given out are a moment apart as well, in the order of asking. */
export function turns(now: () => number = Date.now, apartMs = APART_MS): LocalTurns {
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

/** The same over all nodes: who has the turn in its process also needs the one seat that there is for the key. Throws `store`. */
export function turnsOfAll(seats: Pick<Seats, "take" | "keep">, apartMs = APART_MS): Turns {
  const here = turns(Date.now, apartMs);
  return {
    async take(key) {
      const turn = here.take(key);
      if (turn.kind === "wait") return turn;
      // No mailbox has a slash in its id.
      const name = `turn/${createHash("sha256").update(key).digest("base64url")}`;
      let seat: string | undefined;
      try {
        seat = await seats.take(name, 1, LOST_MS);
      } finally {
        if (seat === undefined) turn.done();
      }
      if (seat === undefined) return { kind: "wait", until: new Date(Date.now() + jittered(2 * apartMs)) };
      const mine = { mailbox: name, seat };
      return {
        kind: "go",
        async done() {
          turn.done();
          // The seat ends a moment later. One that cannot be shortened now ends by itself.
          await seats.keep([mine], apartMs).catch(() => undefined);
        },
      };
    },
  };
}
