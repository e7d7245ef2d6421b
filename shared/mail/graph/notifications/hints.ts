/**
 * Hints that Microsoft Graph has sent for a mailbox. A hint only says that a comparison is worth its request now: it may be
 * lost, late, doubled or false, and the mailbox is polled all the same.
 */

/**
 * changed: something is new. missed: Graph could not send some notifications. renew: the subscription must be renewed now.
 * removed: Graph has ended the subscription.
 */
export const HINTS = ["changed", "missed", "renew", "removed"] as const;
export type Hint = (typeof HINTS)[number];

export interface GraphHints {
  /** Calls `onHint` for each hint of this mailbox, until the returned object is disposed of. */
  listen(mailbox: string, onHint: (hint: Hint) => void): Disposable;
  /** False if nobody in this process watches the mailbox. */
  give(mailbox: string, hint: Hint): boolean;
}

/** Hints for mailboxes that other nodes watch. A hint may get lost: then the mailbox is compared when it is due. */
export interface HintChannel {
  /** Resolves when the other nodes were told. */
  publish(hints: [mailbox: string, hint: Hint][]): Promise<void>;
  subscribe(heard: (hints: [mailbox: string, hint: Hint][]) => void): void;
}

/** The hints of a process. */
export function graphHints(): GraphHints {
  const listeners = new Map<string, Set<(hint: Hint) => void>>();
  return {
    listen(mailbox, onHint) {
      const present = listeners.get(mailbox) ?? new Set();
      listeners.set(mailbox, present.add(onHint));
      return {
        [Symbol.dispose]() {
          present.delete(onHint);
          if (present.size === 0 && listeners.get(mailbox) === present) listeners.delete(mailbox);
        },
      };
    },
    give(mailbox, hint) {
      const present = listeners.get(mailbox);
      for (const onHint of present ?? []) onHint(hint);
      return present !== undefined;
    },
  };
}
