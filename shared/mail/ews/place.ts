/** Where an Exchange mailbox is served: as the mailbox says, or as autodiscover found it, remembered until it turns out to be wrong. */
import type { MailboxOf } from "../../contract/mailbox.ts";

/** The address of the web services; `grouping` names the servers that may share a stream of events, where autodiscover tells it. */
export type Place = { url: string; grouping: string | null };

/** What autodiscover found, by address and settings. */
export interface Places {
  known(key: string): Place | undefined;
  keep(key: string, place: Place): void;
  forget(key: string): void;
}

const MOST = 10_000;
const TRUSTED_MS = 24 * 60 * 60_000;

/** Places found in the last day. */
export function placeMemory(): Places {
  const places = new Map<string, { place: Place; until: number }>();
  return {
    known(key) {
      const found = places.get(key);
      return found && found.until > Date.now() ? found.place : undefined;
    },
    keep(key, place) {
      if (places.size >= MOST) places.clear();
      places.set(key, { place, until: Date.now() + TRUSTED_MS });
    },
    forget: (key) => void places.delete(key),
  };
}

/** The place that the mailbox itself names; undefined where it has to be found. */
export function namedPlace({ receive }: MailboxOf<"ews">): Place | undefined {
  if (receive.url !== undefined) return { url: receive.url, grouping: null };
  if (receive.host === undefined) return undefined;
  const scheme = receive.tls === "none" ? "http" : "https";
  const port = receive.port === undefined ? "" : `:${receive.port}`;
  return { url: `${scheme}://${receive.host}${port}/EWS/Exchange.asmx`, grouping: null };
}
