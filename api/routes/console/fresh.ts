/** Costly views are computed once for everybody who looks at them, and the longer that takes the less often. */
import { clock } from "../../../shared/time.ts";
import type { ScopedDeps } from "../../scoped-deps.ts";

/** `at`: when it was computed, in milliseconds since 1970. */
export type Fresh<T> = { value: T; at: number };

const FRESH_MS = 2_000;
/** So that all open pages together take at most this part of the node's time. */
const MAX_PART = 1 / 10;

/** Computes a value for these dependencies, or returns the last one while it is fresh. */
export function keepFresh<T>(compute: (deps: ScopedDeps) => Promise<T>): (deps: ScopedDeps) => Promise<Fresh<T>> {
  const kept = new WeakMap<ScopedDeps, { result: Promise<Fresh<T>>; freshUntil: number }>();
  const measure = async (deps: ScopedDeps, entry: { freshUntil: number }): Promise<Fresh<T>> => {
    const [at, began] = [clock.now(), clock.monotonic()];
    try {
      const value = await compute(deps);
      const ended = clock.monotonic();
      entry.freshUntil = ended + Math.max(FRESH_MS, (ended - began) / MAX_PART);
      return { value, at };
    } catch (error) {
      entry.freshUntil = 0;
      throw error;
    }
  };
  return (deps) => {
    const last = kept.get(deps);
    if (last && clock.monotonic() < last.freshUntil) return last.result;
    const entry = { freshUntil: Number.POSITIVE_INFINITY };
    const result = measure(deps, entry);
    kept.set(deps, Object.assign(entry, { result }));
    return result;
  };
}
