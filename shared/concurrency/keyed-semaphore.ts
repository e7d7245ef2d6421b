/** A semaphore for each key. With a size of 1 it is a lock. Memory follows the number of keys in use. */
import { type Permit, type Semaphore, semaphore } from "./semaphore.ts";
import type { WaitLimits } from "./waiting-line.ts";

export interface KeyedSemaphore {
  /** Keys that somebody holds or waits for. */
  readonly keys: number;
  /** How many wait for this key. */
  waiting(key: string): number;
  /** As `Semaphore.acquire`, for one key. `size` is the number of permits from now on, if keys differ in that. */
  acquire(key: string, limits: WaitLimits & { size?: number }, signal?: AbortSignal): Promise<Permit>;
  tryAcquire(key: string): Permit | undefined;
}

export function keyedSemaphore(defaultSize: number): KeyedSemaphore {
  const semaphores = new Map<string, Semaphore>();

  const getSemaphore = (key: string): Semaphore => {
    const known = semaphores.get(key) ?? semaphore(defaultSize);
    semaphores.set(key, known);
    return known;
  };

  const forgetIdle = (key: string, one: Semaphore) => {
    if (one.isIdle && semaphores.get(key) === one) semaphores.delete(key);
  };

  const wrap = (key: string, one: Semaphore, permit: Permit): Permit => {
    const release = () => {
      permit.release();
      forgetIdle(key, one);
    };
    return { release, [Symbol.dispose]: release };
  };

  return {
    get keys() {
      return semaphores.size;
    },
    waiting: (key) => semaphores.get(key)?.waiting ?? 0,
    async acquire(key, { size, ...limits }, signal) {
      const one = getSemaphore(key);
      if (size !== undefined) one.resize(size);
      try {
        return wrap(key, one, await one.acquire(limits, signal));
      } catch (error) {
        forgetIdle(key, one);
        throw error;
      }
    },
    tryAcquire(key) {
      const one = getSemaphore(key);
      const permit = one.tryAcquire();
      return permit && wrap(key, one, permit);
    },
  };
}
