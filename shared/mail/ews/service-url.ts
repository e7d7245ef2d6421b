/** The URL of a mailbox's Exchange Web Services, and a cache of URLs that autodiscover found. */
import { Problem } from "../../contract/problem.ts";
import { clock } from "../../time.ts";

/**
 * The URL of the web services. `grouping` names the servers that may share a stream of events, if autodiscover said it.
 */
export type ServiceUrl = { url: string; grouping: string | null };

/** What autodiscover found, by address and settings. */
export interface ServiceUrlCache {
  get(key: string): ServiceUrl | undefined;
  set(key: string, place: ServiceUrl): void;
  delete(key: string): void;
}

const MAX_ENTRIES = 10_000;

const CACHE_MS = 24 * 60 * 60_000;

/** A cache of what autodiscover found within the last day. */
export function serviceUrlCache(): ServiceUrlCache {
  const entries = new Map<string, { place: ServiceUrl; until: number }>();
  return {
    get(key) {
      const found = entries.get(key);
      return found && found.until > clock.now() ? found.place : undefined;
    },
    set(key, place) {
      if (entries.size >= MAX_ENTRIES) entries.clear();
      entries.set(key, { place, until: clock.now() + CACHE_MS });
    },
    delete: (key) => void entries.delete(key),
  };
}

/**
 * A service URL, and `invalidate` for a problem there: it removes a cached URL from the cache, and the problem can then
 * be tried again.
 */
export type LocatedServiceUrl = { serviceUrl: ServiceUrl; invalidate: (problem: Problem) => Problem };
