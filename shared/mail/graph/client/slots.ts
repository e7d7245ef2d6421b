/**
 * Slots that all nodes share, for what Graph counts over all processes of an application. A slot that its node does not
 * renew expires, so a killed node holds none for long.
 */
import type { Permit } from "../../../concurrency/semaphore.ts";
import { Problem } from "../../../contract/problem.ts";
import { clock, jitter, sleep } from "../../../time.ts";

/** What a store offers: never more than `limit` slots of a name at once. */
export interface RequestSlots {
  /** Undefined when `limit` slots are in use. */
  acquire(name: string, limit: number, ttlMs: number): Promise<string | undefined>;
  renew(slots: { mailbox: string; slot: string }[], ttlMs: number): Promise<void>;
  release(name: string, slot: string): Promise<void>;
}

type SlotWish = { name: string; limit: number; waitMs: number };

const TTL_MS = 60_000;
/** How often a slot is asked for while all are in use: soon at first, because most requests are short. */
const ASK_MS = { first: 20, last: 500 };

const NO_STORE: unique symbol = Symbol("the store did not answer");

/**
 * A slot, once one is free. Throws `timeout` after `waitMs`. Without an answer of the store each process keeps the limit
 * alone: Graph refuses what is too much.
 */
export async function acquireSlot(
  slots: RequestSlots,
  { name, limit, waitMs }: SlotWish,
  signal: AbortSignal,
): Promise<Permit> {
  const until = clock.monotonic() + waitMs;
  for (let ms = ASK_MS.first; clock.monotonic() < until; ms = Math.min(2 * ms, ASK_MS.last)) {
    const slot = await slots.acquire(name, limit, TTL_MS).catch((): typeof NO_STORE => NO_STORE);
    if (slot === NO_STORE) return toPermit(() => undefined);
    if (slot !== undefined) return holdSlot(slots, name, slot);
    if (!(await sleep(jitter(ms), signal))) signal.throwIfAborted();
  }
  throw new Problem("timeout", "The mailbox's earlier requests to Microsoft Graph did not end in time");
}

function holdSlot(slots: RequestSlots, name: string, slot: string): Permit {
  const held = new AbortController();
  const keep = async () => {
    // A slot that cannot be renewed expires; then a request more than allowed may go out, which Graph refuses.
    while (await sleep(TTL_MS / 3, held.signal))
      await slots.renew([{ mailbox: name, slot }], TTL_MS).catch(() => undefined);
  };
  void keep();
  return toPermit(() => {
    held.abort();
    // One that cannot be released now expires.
    slots.release(name, slot).catch(() => undefined);
  });
}

function toPermit(release: () => void): Permit {
  let isHeld = true;
  const once = () => {
    if (isHeld) release();
    isHeld = false;
  };
  return { release: once, [Symbol.dispose]: once };
}
