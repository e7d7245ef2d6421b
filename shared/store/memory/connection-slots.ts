/** Connection slots of a single node. Its connections end with its process, so the count needs no storage. */
import { randomUUID } from "node:crypto";
import { clock } from "../../time.ts";
import type { ConnectionSlots } from "../store.ts";

const MIN_SWEEP_THRESHOLD = 1_000;

export function memoryConnectionSlots(): ConnectionSlots {
  const slotsByMailbox = new Map<string, Map<string, number>>();
  const listeners = new Set<(mailbox: string) => void>();
  let sweepThreshold = MIN_SWEEP_THRESHOLD;
  /** Deletes slots that expired while nobody asked for one. */
  const dropExpired = () => {
    if (slotsByMailbox.size < sweepThreshold) return;
    for (const mailbox of slotsByMailbox.keys()) if (liveSlots(mailbox).size === 0) slotsByMailbox.delete(mailbox);
    sweepThreshold = Math.max(MIN_SWEEP_THRESHOLD, 2 * slotsByMailbox.size);
  };
  const liveSlots = (mailbox: string) => {
    const slots = slotsByMailbox.get(mailbox) ?? new Map<string, number>();
    for (const [slot, until] of slots) if (until <= clock.monotonic()) slots.delete(slot);
    return slots;
  };
  return {
    async acquire(mailbox, limit, ttlMs) {
      dropExpired();
      const slots = liveSlots(mailbox);
      if (slots.size >= limit) return undefined;
      const slot = randomUUID();
      slotsByMailbox.set(mailbox, slots.set(slot, clock.monotonic() + ttlMs));
      return slot;
    },
    async renew(renewed, ttlMs) {
      for (const { mailbox, slot } of renewed)
        slotsByMailbox.set(mailbox, liveSlots(mailbox).set(slot, clock.monotonic() + ttlMs));
    },
    async release(mailbox, slot) {
      const slots = liveSlots(mailbox);
      slots.delete(slot);
      if (slots.size === 0) slotsByMailbox.delete(mailbox);
    },
    async requestSlot(mailbox) {
      for (const listener of listeners) listener(mailbox);
    },
    onSlotRequest(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    count: async (mailbox) => liveSlots(mailbox).size,
  };
}
