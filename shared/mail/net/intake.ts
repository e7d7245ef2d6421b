/**
 * What all mail servers together may make this process read. A server that sends many small answers gets a part of the
 * time, and the bytes of unfinished answers have a limit. A connection waits with its socket paused.
 */
import { Problem } from "../../contract/problem.ts";

/** One for a process. Every connection joins it. */
export interface Intake {
  /** `end` is called when this connection must end so that the others go on. Dispose the share with the connection. */
  join(end: (problem: Problem) => void): IntakeShare;
}

/** The share of one connection. A method returns undefined when there is nothing to wait for. */
export interface IntakeShare extends Disposable {
  /** How long the connection has been waiting; 0 when it does not wait. */
  readonly waitedMs: number;
  /** Before `count` answers are handed to a parser that were not asked for one by one. */
  awaitTurn(count: number): Promise<void> | undefined;
  /** After more bytes of an answer that is not complete; `bytes` of it are held now, 0 when it is complete. */
  hold(bytes: number): Promise<void> | undefined;
}

/** Answers that a connection may send at once and each second, before it shares the slow lane with the others. */
const FREE_ANSWERS = { burst: 500, perSecond: 200 };
/** The slow lane lets so many answers pass, then the process does other things for so many milliseconds. */
export const SLICE_ANSWERS = 10;
const SLICE_PAUSE_MS = 5;
/** Smaller parts of answers are not counted. */
const FREE_BYTES = 256 * 1024;
const MAX_HELD_BYTES = 64 * 1024 * 1024;
/** So long the oldest unfinished answer may make the others wait. */
const MAX_WAIT_MS = 60_000;

type Holder = { bytes: number; end: (problem: Problem) => void; wake?: (() => void) | undefined };

/** `maxBytes` of unfinished answers; the oldest of them may exceed it, so that one at least comes to its end. */
export function createIntake({ maxBytes = MAX_HELD_BYTES, maxWaitMs = MAX_WAIT_MS } = {}): Intake {
  const lane = slowLane();
  // In the order in which their answers began.
  const holders = new Set<Holder>();

  const oldest = () => holders.values().next().value;
  const mayRead = (holder: Holder) => {
    let bytes = 0;
    for (const one of holders) bytes += one.bytes;
    return bytes <= maxBytes || holder === oldest();
  };
  const wakeFitting = () => {
    for (const holder of holders) if (holder.wake && mayRead(holder)) holder.wake();
  };
  const remove = (holder: Holder) => {
    holder.bytes = 0;
    if (holders.delete(holder)) wakeFitting();
    holder.wake?.();
  };

  async function waitForRoom(holder: Holder): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    holder.wake = resolve;
    let blocker = oldest();
    const timer = setInterval(() => {
      if (blocker === oldest()) blocker?.end(toSlowProblem());
      else blocker = oldest();
    }, maxWaitMs);
    try {
      await promise;
    } finally {
      holder.wake = undefined;
      clearInterval(timer);
    }
  }

  return {
    join(end) {
      const holder: Holder = { bytes: 0, end };
      const allowance = tokenBucket(FREE_ANSWERS);
      let waitingSince = 0;
      const wait = async (turn: Promise<void>) => {
        waitingSince = performance.now();
        await turn;
        waitingSince = 0;
      };
      return {
        get waitedMs() {
          return waitingSince > 0 ? performance.now() - waitingSince : 0;
        },
        awaitTurn: (count) => (allowance.take(count) ? undefined : wait(lane.pass(count))),
        hold(bytes) {
          if (bytes <= FREE_BYTES) return void remove(holder);
          holder.bytes = bytes;
          holders.add(holder);
          return holder.wake || mayRead(holder) ? undefined : wait(waitForRoom(holder));
        },
        [Symbol.dispose]: () => remove(holder),
      };
    },
  };
}

function toSlowProblem(): Problem {
  return new Problem("unavailable", "The server sent a large answer too slowly while others waited for the memory");
}

/** Counts down from `burst` and recovers by `perSecond`. `take` says whether there was enough. */
export function tokenBucket({ burst, perSecond }: { burst: number; perSecond: number }) {
  let [tokens, at] = [burst, performance.now()];
  return {
    take(count: number): boolean {
      const now = performance.now();
      tokens = Math.min(burst, tokens + ((now - at) / 1000) * perSecond);
      at = now;
      if (tokens < count) return false;
      tokens -= count;
      return true;
    },
  };
}

/** Lets one caller after the other pass, with a pause between them. */
function slowLane() {
  const waiting: (() => void)[] = [];
  let timer: NodeJS.Timeout | undefined;
  const next = () => {
    waiting.shift()?.();
    timer = waiting.length > 0 ? setTimeout(next, SLICE_PAUSE_MS) : undefined;
  };
  return {
    pass(count: number): Promise<void> {
      const { promise, resolve } = Promise.withResolvers<void>();
      for (let passed = SLICE_ANSWERS; passed < count; passed += SLICE_ANSWERS) waiting.push(() => undefined);
      waiting.push(resolve);
      timer ??= setTimeout(next, SLICE_PAUSE_MS);
      return promise;
    },
  };
}
