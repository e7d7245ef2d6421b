/** What costs time is computed once for everybody who looks at it, and the longer that takes the less often. */
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
      entry.freshUntil = ended + freshFor(ended - began);
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

/** For how long a result is shown that took `ms`. In a busy process everything takes longer, so less is computed there. */
function freshFor(ms: number): number {
  return Math.max(FRESH_MS, ms / MAX_PART);
}

/** So many pages are kept, those that were made last. */
const MAX_PAGES = 50;

/** Pages that renew themselves, by what tells one from another. Who has the same page open shares one text. */
export interface SharedPages<P> {
  /** The page that was made a moment ago, or is being made. Undefined if nobody made it, or if it failed. */
  find(key: string): Promise<P | undefined>;
  /** Makes a page, and keeps what `keep` is called with meanwhile. Rejects as `make` does. */
  make<T>(key: string, make: (keep: (page: P) => void) => Promise<T>): Promise<T>;
}

export function sharedPages<P>(): SharedPages<P> {
  const pages = new Map<string, { page: Promise<P | undefined>; freshUntil: number }>();
  return {
    async find(key) {
      const kept = pages.get(key);
      return kept && clock.monotonic() < kept.freshUntil ? kept.page : undefined;
    },
    async make(key, make) {
      const { promise, resolve } = Promise.withResolvers<P | undefined>();
      const entry = { page: promise, freshUntil: Number.POSITIVE_INFINITY };
      pages.delete(key);
      pages.set(key, entry);
      const [oldest] = pages.keys();
      if (pages.size > MAX_PAGES && oldest !== undefined) pages.delete(oldest);
      const began = clock.monotonic();
      let made: P | undefined;
      try {
        return await make((page) => (made = page));
      } finally {
        const ended = clock.monotonic();
        entry.freshUntil = made === undefined ? 0 : ended + freshFor(ended - began);
        if (made === undefined && pages.get(key) === entry) pages.delete(key);
        resolve(made);
      }
    },
  };
}
