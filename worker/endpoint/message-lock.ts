/**
 * Locks for copies of one message that go to the same endpoint from several mailboxes: one at a time, with a pause
 * between them. A caller who comes too early learns when to come again, so nobody waits while he holds a place.
 */
import { createHash } from "node:crypto";
import { keyedSemaphore } from "../../shared/concurrency/keyed-semaphore.ts";
import type { ConnectionSlots } from "../../shared/store/store.ts";
import { clock, jitter } from "../../shared/time.ts";

/** Go ahead and release the lock when the endpoint has answered, or come again. */
type LockResult<Held> = ({ kind: "go" } & Held) | { kind: "wait"; until: Date };

type LocalMessageLock = { tryAcquire(key: string): LockResult<Disposable> };

export interface MessageLock {
  tryAcquire(key: string): Promise<LockResult<AsyncDisposable>>;
}

/** When the next caller may go, and when the last of the waiting callers comes again. */
type Spacing = { freeAt: number; lastSlot: number };

const SPACING_MS = 1_000;
/** After this time the lock of a process that died is free again. */
const LOCK_TTL_MS = 120_000;
const MIN_SWEEP_SIZE = 1_000;

/**
 * Locks of this process. The times for waiting callers have pauses between them too, in the order in which they asked.
 */
export function localMessageLock(now: () => number = clock.now, spacingMs = SPACING_MS): LocalMessageLock {
  const locks = keyedSemaphore(1);
  const spacings = new Map<string, Spacing>();
  let sweepAt = MIN_SWEEP_SIZE;

  const sweep = () => {
    if (spacings.size < sweepAt) return;
    for (const [key, { freeAt, lastSlot }] of spacings) if (Math.max(freeAt, lastSlot) < now()) spacings.delete(key);
    sweepAt = Math.max(MIN_SWEEP_SIZE, spacings.size * 2);
  };

  return {
    tryAcquire(key) {
      sweep();
      const at = now();
      const spacing = spacings.get(key) ?? { freeAt: at, lastSlot: at };
      spacings.set(key, spacing);
      const permit = at >= spacing.freeAt ? locks.tryAcquire(key) : undefined;
      if (!permit) {
        spacing.lastSlot = Math.max(spacing.lastSlot, spacing.freeAt, at) + spacingMs;
        return { kind: "wait", until: new Date(spacing.lastSlot) };
      }
      const release = () => {
        spacings.set(key, { freeAt: now() + spacingMs, lastSlot: spacings.get(key)?.lastSlot ?? at });
        permit.release();
      };
      return { kind: "go", [Symbol.dispose]: release };
    },
  };
}

/**
 * The same over all nodes: the holder of a lock in its process also needs the one connection slot for the key. Throws
 * `store`.
 */
export function clusterMessageLock(
  slots: Pick<ConnectionSlots, "acquire" | "renew">,
  spacingMs = SPACING_MS,
): MessageLock {
  const local = localMessageLock(clock.now, spacingMs);
  return {
    async tryAcquire(key) {
      const lock = local.tryAcquire(key);
      if (lock.kind === "wait") return lock;
      using held = new DisposableStack();
      held.use(lock);
      // The id of a mailbox cannot contain a slash.
      const name = `turn/${createHash("sha256").update(key).digest("base64url")}`;
      const slot = await slots.acquire(name, 1, LOCK_TTL_MS);
      if (slot === undefined) return { kind: "wait", until: new Date(clock.now() + jitter(2 * spacingMs)) };
      const turn = held.move();
      return {
        kind: "go",
        async [Symbol.asyncDispose]() {
          turn.dispose();
          // The slot ends a moment later. If it cannot be shortened now, it expires by itself.
          await slots.renew([{ mailbox: name, slot }], spacingMs).catch(() => undefined);
        },
      };
    },
  };
}
