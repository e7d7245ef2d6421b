/**
 * The streaming connections of each Exchange login: as few as its mailboxes need, and no more than its server allows.
 */
import { EventStream, type StreamTimes } from "./stream.ts";

/** `perStream`: subscriptions on one connection. `streams`: connections of one login. */
export type StreamLimits = StreamTimes & { perStream: number; streams: number };

/** Mailboxes of one group can share a connection. */
export type PooledStream = { stream: EventStream; account: string; group: string };

export interface AccountStreams {
  /** A stream with room for a mailbox of this group, or a new one if more are allowed, or none. */
  acquire(account: string, group: string, anchor: string): PooledStream | undefined;
  /** Forgets a stream without subscribers. */
  release(pooled: PooledStream): void;
  /** The server refused this stream, so it allows no more than the others that are open. */
  lowerLimit(pooled: PooledStream): void;
}

type Account = { streams: Set<PooledStream>; limit: number; learnedAt: number };

/** After this time the service tries again whether the server allows more connections. */
const LIMIT_TTL_MS = 15 * 60 * 1000;

export function accountStreams(limits: StreamLimits): AccountStreams {
  const accounts = new Map<string, Account>();
  return {
    acquire(name, group, anchor) {
      const account = accounts.get(name) ?? { streams: new Set<PooledStream>(), limit: limits.streams, learnedAt: 0 };
      accounts.set(name, account);
      for (const one of account.streams) {
        if (one.group === group && one.stream.subscriberCount < limits.perStream) return one;
      }
      if (performance.now() - account.learnedAt > LIMIT_TTL_MS) account.limit = limits.streams;
      if (account.streams.size >= account.limit) return undefined;
      const created = { stream: new EventStream(limits, anchor), account: name, group };
      account.streams.add(created);
      return created;
    },
    release(pooled) {
      const account = accounts.get(pooled.account);
      if (!account || pooled.stream.subscriberCount > 0) return;
      account.streams.delete(pooled);
      if (account.streams.size === 0 && account.limit === limits.streams) accounts.delete(pooled.account);
    },
    lowerLimit(pooled) {
      const account = accounts.get(pooled.account);
      if (!account?.streams.delete(pooled)) return;
      account.limit = account.streams.size;
      account.learnedAt = performance.now();
    },
  };
}
