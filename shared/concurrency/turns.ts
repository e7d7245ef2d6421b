/** Waiting lines that take turns. Each owner has its own line. The owner that was served last comes last. */
import { type Waiter, type WaitingLine, type WaitLimits, waitingLine } from "./waiting-line.ts";

export interface Turns<A, T> {
  /** How many wait, over all owners. */
  readonly size: number;
  /** How many owners have somebody waiting. */
  readonly owners: number;
  waiting(owner: string): number;
  /** The next waiters in the order of the turns. An owner whose waiter is admitted has its next turn after the others. */
  heads(): Iterable<Waiter<A, T>>;
  /** The last waiter of the owner whose turn comes last. */
  last(): Waiter<A, T> | undefined;
  /** As `WaitingLine.wait`, in the line of this owner. */
  wait(owner: string, about: A, limits: WaitLimits, signal?: AbortSignal): Promise<T>;
}

/** `onLeave` is called when a waiter gives up, because others may fit now. Memory follows the number of waiters. */
export function turns<A, T>(onLeave: () => void = () => undefined): Turns<A, T> {
  const lines = new Map<string, WaitingLine<A, T>>();

  /** An owner without waiters is deleted. One that was served goes behind the others. */
  const endTurn = (owner: string, line: WaitingLine<A, T>) => {
    lines.delete(owner);
    if (line.size > 0) lines.set(owner, line);
  };

  const inTurn = (owner: string, line: WaitingLine<A, T>, waiter: Waiter<A, T>): Waiter<A, T> => ({
    about: waiter.about,
    admit(value) {
      waiter.admit(value);
      endTurn(owner, line);
    },
  });

  const getLine = (owner: string): WaitingLine<A, T> => {
    const known = lines.get(owner);
    if (known) return known;
    const line = waitingLine<A, T>(() => {
      if (line.size === 0) lines.delete(owner);
      onLeave();
    });
    lines.set(owner, line);
    return line;
  };

  return {
    get size() {
      let size = 0;
      for (const line of lines.values()) size += line.size;
      return size;
    },
    get owners() {
      return lines.size;
    },
    waiting: (owner) => lines.get(owner)?.size ?? 0,
    *heads() {
      // An owner that was served goes to the end of `lines`, so it is reached again after the others.
      for (const [owner, line] of lines) {
        const first = line.first();
        if (first) yield inTurn(owner, line, first);
      }
    },
    last() {
      const [owner, line] = [...lines].at(-1) ?? [];
      const last = line?.last();
      return owner !== undefined && line && last ? inTurn(owner, line, last) : undefined;
    },
    wait: async (owner, about, limits, signal) => {
      signal?.throwIfAborted();
      return getLine(owner).wait(about, limits, signal);
    },
  };
}
