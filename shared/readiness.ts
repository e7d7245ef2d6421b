/**
 * Whether this node can do its work: its store answers, and the node has every key that something in the store is
 * encrypted with. A node that is not ready takes no tasks and no mailboxes, so that other nodes do its work.
 */
import { childSignal, unlessAborted } from "./concurrency/abort.ts";
import { asProblem, type Problem } from "./contract/problem.ts";
import type { Emit } from "./telemetry/events.ts";
import { sleep } from "./time.ts";

/** `problem` is null when the check passed. */
export type ReadinessCheck = { name: "store" | "keys" | "queue"; problem: Problem | null };

export interface NodeReadiness {
  /** What the last looks found; null while the node is ready. */
  readonly problem: Problem | null;
  /** Checks now. Never rejects. */
  check(): Promise<ReadinessCheck[]>;
  /**
   * True for the failure of a task that another node might not have: the store or the queue cannot be reached, or a key
   * is missing here. Never rejects.
   */
  isNodeFault(problem: Problem): Promise<boolean>;
  /**
   * Runs `work` until the signal aborts, but only while the node is ready: its signal aborts when the node is not ready any
   * more, and it runs again when the node is.
   */
  runWhileReady(work: (signal: AbortSignal) => Promise<void>, signal: AbortSignal): Promise<void>;
  /** Looks from time to time until the signal aborts. */
  run(signal: AbortSignal): Promise<void>;
}

type NodeReadinessDeps = { store: { ping(): Promise<void>; checkKeys(): Promise<void> }; emit: Emit };

const LOOK_INTERVAL_MS = 10_000;
/** A store that misses one look may only be slow, and stopping all tasks for that would do more harm. */
const MISSES_BEFORE_UNREADY = 2;

export function nodeReadiness({ store, emit }: NodeReadinessDeps): NodeReadiness {
  let problem: Problem | null = null;
  let misses = 0;
  let unready = new AbortController();
  let ready = Promise.withResolvers<void>();

  const check = async (): Promise<ReadinessCheck[]> => {
    const away = await failureOf(store.ping());
    if (away) return [{ name: "store", problem: away }];
    return [
      { name: "store", problem: null },
      { name: "keys", problem: await keyProblemOf(store) },
    ];
  };

  const update = (found: Problem | null) => {
    const wasReady = problem === null;
    problem = found;
    if (wasReady && found) {
      ready = Promise.withResolvers();
      unready.abort(new DOMException(found.message, "AbortError"));
      const failure = { code: found.code, cause: found.message };
      emit({ kind: "service.failed", what: "this node, which takes no tasks and no mailboxes now", failure });
    } else if (!wasReady && !found) {
      unready = new AbortController();
      ready.resolve();
      emit({ kind: "service.warned", about: "This node is ready again, and takes tasks and mailboxes" });
    }
  };

  const look = async () => {
    const failed = (await check()).find((one) => one.problem !== null);
    misses = failed?.name === "store" ? misses + 1 : 0;
    if (failed?.name === "store" && misses < MISSES_BEFORE_UNREADY) return;
    update(failed?.problem ?? null);
  };

  return {
    get problem() {
      return problem;
    },
    check,
    async isNodeFault({ code, retry }) {
      if (code === "store" || code === "queue") return retry !== "never";
      if (code !== "config") return false;
      const missing = await keyProblemOf(store);
      if (missing) update(missing);
      return missing !== null;
    },
    async runWhileReady(work, signal) {
      while (!signal.aborted) {
        if (problem) {
          await unlessAborted(ready.promise, signal).catch(() => undefined);
          continue;
        }
        using its = childSignal(signal, unready.signal);
        await work(its.signal);
        if (!its.signal.aborted) return;
      }
    },
    async run(signal) {
      do await look();
      while (await sleep(LOOK_INTERVAL_MS, signal));
    },
  };
}

/** A store that does not answer is another problem than a key. */
async function keyProblemOf(store: NodeReadinessDeps["store"]): Promise<Problem | null> {
  const failure = await failureOf(store.checkKeys());
  return failure?.code === "config" ? failure : null;
}

function failureOf(work: Promise<void>): Promise<Problem | null> {
  return work.then(() => null, asProblem);
}
