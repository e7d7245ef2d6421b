/**
 * Which process gets the tasks of a mailbox first, so that it uses its connections to the mailbox again. Preference is
 * never exclusive: a task that the process does not start within OWN_WAIT_MS goes to any process.
 */
import { hashOf, weightOf } from "../rendezvous.ts";

/** A process that performs tasks. `ownTasks`: it takes the tasks that prefer it. A process of 0.1 does not. */
export type Taker = { name: string; ownTasks: boolean };

export interface Preference {
  /** The name of the process that the tasks of this mailbox prefer. Undefined if each process is as good. */
  preferredFor(mailbox: string): string | undefined;
}

/** How long a task waits for the process that it prefers. */
export const OWN_WAIT_MS = 1_000;

/** The preference of a node, which has none until `know` tells it the processes that perform tasks. */
export type NodePreference = Preference & { know(takers: () => readonly Taker[]): void };

/**
 * With `itself`, tasks prefer the node of this name that sends them: it listens to the mailbox, and has a connection.
 * Otherwise each mailbox has a taker of its own.
 */
export function nodePreference(itself?: string): NodePreference {
  let takers: (() => readonly Taker[]) | undefined;
  const hashed = hashedTakers();
  return {
    preferredFor(mailbox) {
      const known = takers?.();
      if (known === undefined || known.length < 2) return undefined;
      const best =
        itself === undefined ? heaviestFor(mailbox, hashed(known)) : known.find(({ name }) => name === itself);
      return best?.ownTasks ? best.name : undefined;
    },
    know(source) {
      takers = source;
    },
  };
}

type HashedTaker = Taker & { hash: number };

/** Hashes a list of takers once. */
function hashedTakers() {
  let last: readonly Taker[] = [];
  let hashes: readonly HashedTaker[] = [];
  return (takers: readonly Taker[]): readonly HashedTaker[] => {
    if (takers !== last) {
      last = takers;
      hashes = takers.map((taker) => ({ ...taker, hash: hashOf(taker.name) }));
    }
    return hashes;
  };
}

function heaviestFor(mailbox: string, takers: readonly HashedTaker[]): Taker | undefined {
  const key = hashOf(mailbox);
  let best: Taker | undefined;
  let bestWeight = -1;
  for (const taker of takers) {
    const weight = weightOf(key, taker.hash);
    if (weight <= bestWeight) continue;
    best = taker;
    bestWeight = weight;
  }
  return best;
}
