/**
 * Limits the message bytes that a process holds, and shares them out: messages for a stranger that does not answer take
 * no memory from the others.
 */
import { turns } from "../../shared/concurrency/turns.ts";
import type { WaitLimits } from "../../shared/concurrency/waiting-line.ts";
import { clock } from "../../shared/time.ts";
import type { Standing } from "./answers.ts";
import { type Destination, LineFull, type Lines, type Stranger } from "./lines.ts";

/** `heldFor`: the destination whose answer the bytes wait for. `nextFor`: where they wait after that. */
export type MemoryRequest = { owner: string; bytes: number; heldFor: Destination; nextFor?: Destination | undefined };

/** The bytes are held until the disposal. `moveTo` changes the destination that they wait for. */
export type HeldMemory = Disposable & { moveTo(destination: Destination): void };

export interface MemoryShares {
  /**
   * Resolves once the bytes fit into the whole and into the share of their destination. A message larger than a share
   * gets the whole share alone. Waiters take turns by owner. Rejects with the signal's reason, or past the limits.
   */
  acquire(request: MemoryRequest, limits: WaitLimits, signal: AbortSignal): Promise<HeldMemory>;
}

/** A task that waits longer than this for memory is offered again. */
const WAIT_MS = 60_000;
const OFFER_AGAIN_MS = 5_000;
export const MEMORY_LIMITS: WaitLimits = {
  ms: WAIT_MS,
  late: () => new LineFull(new Date(clock.now() + OFFER_AGAIN_MS)),
};

type Held = { owner: string; bytes: number; heldFor: Destination };

/** Messages larger than this have a pool of their own. The other messages come in batches of at most this size. */
const LARGE_BYTES = 8 * 1024 * 1024;
/**
 * The part of a pool for one stranger, by how it answers; for one site; and for all strangers together that do not
 * answer.
 */
const SHARE: Record<Standing, number> = { answering: 1 / 2, unknown: 1 / 8, silent: 1 / 8 };
const SITE_SHARE = 1 / 2;
/** The part that one owner may hold, whomever its messages wait for. */
const OWNER_SHARE = 1 / 8;
const NOT_ANSWERING = 1 / 2;

/** Half of `total` is for large messages, half for all others. */
export function memoryShares(total: number, lines: Pick<Lines, "standing">): MemoryShares {
  const pools = { large: memoryPool(total / 2, lines), small: memoryPool(total / 2, lines) };
  return {
    acquire(request, limits, signal) {
      return pools[request.bytes > LARGE_BYTES ? "large" : "small"].acquire(request, limits, signal);
    },
  };
}

function memoryPool(capacity: number, lines: Pick<Lines, "standing">): MemoryShares {
  const all = new Set<Held>();
  const waiting = turns<MemoryRequest, HeldMemory>(admitFitting);

  const sum = (counts: (held: Held) => boolean) => {
    let bytes = 0;
    for (const one of all) if (counts(one)) bytes += one.bytes;
    return bytes;
  };
  const heldAs = (part: keyof Destination, { name }: Stranger) => sum(({ heldFor }) => heldFor[part].name === name);
  const isDoubtful = (destination: Destination) => lines.standing(destination) !== "answering";
  // More than half would not fit beside the bytes of strangers that do not answer.
  const bytesOf = ({ bytes }: MemoryRequest) => Math.min(bytes, capacity / 2);

  function fitsShare(destination: Destination, added: number): boolean {
    const [own, site] = [heldAs("own", destination.own), heldAs("site", destination.site)];
    const fitsOwn = own === 0 || own + added <= capacity * SHARE[lines.standing(destination)];
    return fitsOwn && (site === 0 || site + added <= capacity * SITE_SHARE);
  }

  function fitsShares(request: MemoryRequest): boolean {
    const bytes = bytesOf(request);
    const { heldFor, nextFor } = request;
    const mine = sum(({ owner }) => owner === request.owner);
    if (mine > 0 && mine + bytes > capacity * OWNER_SHARE) return false;
    if (!fitsShare(heldFor, bytes) || (nextFor && !fitsShare(nextFor, 1))) return false;
    if (!isDoubtful(heldFor) && !(nextFor && isDoubtful(nextFor))) return true;
    const doubtful = sum((one) => isDoubtful(one.heldFor));
    return doubtful === 0 || doubtful + bytes <= capacity * NOT_ANSWERING;
  }

  const fitsWhole = (request: MemoryRequest) => sum(() => true) + bytesOf(request) <= capacity;

  function hold(request: MemoryRequest): HeldMemory {
    const held: Held = { owner: request.owner, bytes: bytesOf(request), heldFor: request.heldFor };
    all.add(held);
    return {
      moveTo(destination) {
        held.heldFor = destination;
        admitFitting();
      },
      [Symbol.dispose]() {
        if (all.delete(held)) admitFitting();
      },
    };
  }

  function admitFitting(): void {
    for (const next of waiting.heads()) {
      if (!fitsShares(next.about)) continue;
      // Only strangers that answer use the rest. It is free soon, so later requests must not overtake this one.
      if (!fitsWhole(next.about)) return;
      next.admit(hold(next.about));
    }
  }

  return {
    async acquire(request, limits, signal) {
      signal.throwIfAborted();
      if (waiting.size === 0 && fitsShares(request) && fitsWhole(request)) return hold(request);
      const admitted = waiting.wait(request.owner, request, limits, signal);
      admitFitting();
      return admitted;
    },
  };
}
