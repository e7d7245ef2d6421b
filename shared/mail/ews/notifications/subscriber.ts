/** Collects the notifications of one mailbox between two comparisons, and wakes the subscription. */
import type { FolderId } from "ews-javascript-api";
import { sleep } from "../../../time.ts";
import type { NotificationPool } from "./pool.ts";
import type { ListenerSign } from "./get-streaming-events.ts";
import type { EwsSession } from "../client/session.ts";

/** The ids of folders in which something appeared; `all` if the folder is unknown. */
export type ChangedFolders = ReadonlySet<string> | "all";

export interface Subscriber {
  /** Whether the server pushes notifications; undefined while that is not known yet. */
  readonly push: boolean | undefined;
  /** The messages that the server said it delivered, the last ones. */
  readonly delivered: ReadonlySet<string>;
  /** Follows these folders from now on, and no others. */
  follow(folders: FolderId[] | "all"): void;
  /**
   * The folders that changed since the last call. Waits for a change until `until` (as performance.now() counts).
   * Throws the Problem that ended the notifications.
   */
  nextChanges(until: number): Promise<ChangedFolders>;
  /** Stops following. Resolves when that has ended. */
  close(): Promise<void>;
}

/** The ids are needed until the next comparison of their folder. */
const MAX_DELIVERED = 2000;

/** A subscriber for one mailbox. `onContact` is called whenever the server sent something. */
export function createSubscriber(
  notifications: NotificationPool,
  session: EwsSession,
  onContact: () => void,
  signal: AbortSignal,
): Subscriber {
  let changed: ChangedFolders = new Set();
  const delivered = new Set<string>();
  let push: boolean | undefined;
  let failure: { error: unknown } | undefined;
  let wake: (() => void) | undefined;
  let stopped = new AbortController();
  let running: Promise<void> = Promise.resolve();

  const onChanges = (folders: readonly string[] | "all") => {
    changed = folders === "all" || changed === "all" ? "all" : new Set([...changed, ...folders]);
    wake?.();
  };
  const rememberDelivered = (keys: readonly string[]) => {
    for (const key of keys) delivered.add(key);
    for (const key of delivered) {
      if (delivered.size <= MAX_DELIVERED) break;
      delivered.delete(key);
    }
  };
  const onStatus = (sign: ListenerSign) => {
    if (sign.kind === "heard") return onContact();
    if (sign.kind === "delivered") return rememberDelivered(sign.keys);
    push = sign.push;
    wake?.();
  };
  const run = async (folders: FolderId[] | "all", lifetime: AbortSignal) => {
    try {
      await notifications.follow(session, folders, onChanges, onStatus, lifetime);
    } catch (error) {
      if (lifetime.aborted) return;
      failure = { error };
      wake?.();
    }
  };

  return {
    get push() {
      return push;
    },
    delivered,
    follow(folders) {
      stopped.abort();
      stopped = new AbortController();
      const before = running;
      const lifetime = AbortSignal.any([signal, stopped.signal]);
      running = Promise.all([before, run(folders, lifetime)]).then(() => undefined);
    },
    async nextChanges(until) {
      if (!failure && changed !== "all" && changed.size === 0) {
        const woken = new AbortController();
        wake = () => woken.abort();
        await sleep(Math.max(0, until - performance.now()), AbortSignal.any([signal, woken.signal]));
        wake = undefined;
      }
      if (failure) throw failure.error;
      const changes = changed;
      changed = new Set();
      return changes;
    },
    async close() {
      stopped.abort();
      await running;
    },
  };
}
