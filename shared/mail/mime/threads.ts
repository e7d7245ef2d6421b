/**
 * Parser threads: a few, started when there is work, each with one message at a time, ended after a minute without
 * work.
 */
import { Worker } from "node:worker_threads";
import { childSignal } from "../../concurrency/abort.ts";
import { semaphore } from "../../concurrency/semaphore.ts";
import type { ParsedMessage } from "../../contract/received.ts";
import type { ContentLimits } from "./content.ts";
import type { ParseRequest } from "./parse-worker.ts";

/** The parsed message, or the reason why there is none, as the end of a sentence. */
export type ParseResult = { message: ParsedMessage } | { failure: string };

export interface ParserThreads {
  /**
   * Resolves once a thread has answered, failed or passed the deadline. The wait for a free thread does not count.
   * Rejects with the signal's reason if it aborts before a thread was free.
   */
  parse(raw: Uint8Array, limits: ContentLimits, signal?: AbortSignal): Promise<ParseResult>;
  close(): Promise<void>;
}

type Thread = {
  worker: Worker;
  settle: ((answer: ParseResult) => void) | undefined;
  idleTimer: NodeJS.Timeout | undefined;
};
type Job = { raw: Uint8Array; limits: ContentLimits };

const IDLE_MS = 60_000;
// It works where the runtime has such limits (Node). Elsewhere only the parser's own limits protect the process.
const HEAP_MB = 1024;
const STOPPING: ParseResult = { failure: "the service stopped" };

/**
 * Runs at most `most` threads. A thread that fails or passes `deadlineMs` is ended, and the next message gets a new
 * one.
 */
export function parserThreads({ most, deadlineMs }: { most: number; deadlineMs: number }): ParserThreads {
  const threads = new Set<Thread>();
  const slots = semaphore(most);
  const closing = new AbortController();

  const endThread = async (thread: Thread): Promise<void> => {
    threads.delete(thread);
    clearTimeout(thread.idleTimer);
    await thread.worker.terminate();
  };

  const getIdleThread = (): Thread => {
    for (const thread of threads) if (!thread.settle) return thread;
    const thread = startThread(endThread);
    threads.add(thread);
    return thread;
  };

  const runJob = (job: Job): Promise<ParseResult> => {
    const { promise, resolve } = Promise.withResolvers<ParseResult>();
    const thread = getIdleThread();
    clearTimeout(thread.idleTimer);
    thread.worker.ref();
    const timer = setTimeout(() => {
      thread.settle?.({ failure: `parsing took longer than ${deadlineMs / 1000} seconds` });
      void endThread(thread);
    }, deadlineMs);
    thread.settle = (answer) => {
      clearTimeout(timer);
      thread.settle = undefined;
      thread.worker.unref();
      thread.idleTimer = setTimeout(() => void endThread(thread), IDLE_MS).unref();
      resolve(answer);
    };
    postJob(thread, job);
    return promise;
  };

  return {
    async parse(raw, limits, signal) {
      using waiting = childSignal(closing.signal, ...(signal ? [signal] : []));
      const slot = await slots.acquire({}, waiting.signal).catch((error: unknown) => {
        if (closing.signal.aborted) return undefined;
        throw error;
      });
      if (slot === undefined) return STOPPING;
      using _ = slot;
      return await runJob({ raw, limits });
    },
    async close() {
      closing.abort();
      for (const thread of threads) thread.settle?.(STOPPING);
      await Promise.all([...threads].map(endThread));
    },
  };
}

function postJob({ worker }: Thread, { raw, limits }: Job): void {
  // A copy, because a transferred buffer is lost here, and the caller still needs its bytes.
  const copy: ParseRequest = { raw: new Uint8Array(raw).buffer, limits };
  worker.postMessage(copy, [copy.raw]);
}

function startThread(endThread: (thread: Thread) => Promise<void>): Thread {
  const resourceLimits = { maxOldGenerationSizeMb: HEAP_MB };
  const worker = new Worker(new URL("./parse-worker.ts", import.meta.url), { resourceLimits });
  const thread: Thread = { worker, settle: undefined, idleTimer: undefined };
  const fail = (failure: string) => {
    thread.settle?.({ failure });
    void endThread(thread);
  };
  worker.on("message", (message: ParsedMessage) => thread.settle?.({ message }));
  worker.on("error", (error: unknown) => fail(`the parser failed: ${error instanceof Error ? error.message : "?"}`));
  worker.on("exit", () => fail("the parser thread ended"));
  return thread;
}
