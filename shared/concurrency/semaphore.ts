/** A limit on what runs at once. The others wait in the order they came. */
import { type WaitLimits, waitingLine } from "./waiting-line.ts";

/** What was acquired, until it is released. A second release does nothing. */
export type Permit = Disposable & { release(): void };

export interface Semaphore {
  /** Nobody holds a permit or waits for one. */
  readonly isIdle: boolean;
  readonly waiting: number;
  /**
   * Resolves with a permit of this weight (default 1) once it fits and nobody waits in front. A weight above the size
   * fits once nobody else holds a permit. Rejects with the signal's reason, or past the limits.
   */
  acquire(limits: WaitLimits & { weight?: number }, signal?: AbortSignal): Promise<Permit>;
  /** The permit if it is free now. */
  tryAcquire(weight?: number): Permit | undefined;
  /** Sets the size. Permits that are held stay valid. */
  resize(size: number): void;
}

export function semaphore(initialSize: number): Semaphore {
  let size = initialSize;
  let used = 0;
  const line = waitingLine<number, Permit>(admitFitting);
  const fits = (weight: number) => used === 0 || used + weight <= size;

  function take(weight: number): Permit {
    used += weight;
    let held = true;
    const release = () => {
      if (!held) return;
      held = false;
      used -= weight;
      admitFitting();
    };
    return { release, [Symbol.dispose]: release };
  }

  function admitFitting(): void {
    for (let next = line.first(); next && fits(next.about); next = line.first()) next.admit(take(next.about));
  }

  const tryAcquire = (weight = 1) => (line.size === 0 && fits(weight) ? take(weight) : undefined);
  return {
    get isIdle() {
      return used === 0 && line.size === 0;
    },
    get waiting() {
      return line.size;
    },
    async acquire({ weight = 1, ...limits }, signal) {
      signal?.throwIfAborted();
      return tryAcquire(weight) ?? line.wait(weight, limits, signal);
    },
    tryAcquire,
    resize(newSize) {
      size = newSize;
      admitFitting();
    },
  };
}
