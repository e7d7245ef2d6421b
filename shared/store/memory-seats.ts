/** Seats of a node that is alone: its connections end with its process, and so may their count. */
import { randomUUID } from "node:crypto";
import type { Seats } from "./store.ts";

const SWEEP_AT = 1_000;

export function memorySeats(): Seats {
  const taken = new Map<string, Map<string, number>>();
  const listeners = new Set<(mailbox: string) => void>();
  let sweepAt = SWEEP_AT;
  /** Seats that ended by themselves, with nobody asking for another one. */
  const sweep = () => {
    if (taken.size < sweepAt) return;
    for (const mailbox of taken.keys()) if (seatsOf(mailbox).size === 0) taken.delete(mailbox);
    sweepAt = Math.max(SWEEP_AT, 2 * taken.size);
  };
  const seatsOf = (mailbox: string) => {
    const seats = taken.get(mailbox) ?? new Map<string, number>();
    for (const [seat, until] of seats) if (until <= performance.now()) seats.delete(seat);
    return seats;
  };
  return {
    async take(mailbox, limit, ttlMs) {
      sweep();
      const seats = seatsOf(mailbox);
      if (seats.size >= limit) return undefined;
      const seat = randomUUID();
      taken.set(mailbox, seats.set(seat, performance.now() + ttlMs));
      return seat;
    },
    async keep(kept, ttlMs) {
      for (const { mailbox, seat } of kept) taken.set(mailbox, seatsOf(mailbox).set(seat, performance.now() + ttlMs));
    },
    async leave(mailbox, seat) {
      const seats = seatsOf(mailbox);
      seats.delete(seat);
      if (seats.size === 0) taken.delete(mailbox);
    },
    async wish(mailbox) {
      for (const heard of listeners) heard(mailbox);
    },
    onWish(heard) {
      listeners.add(heard);
      return () => listeners.delete(heard);
    },
  };
}
