/** Threads that parse: a few, started when there is work, each with one message at a time, ended after a minute without any. */
import { Worker } from "node:worker_threads";
import type { ParsedMessage } from "../../contract/received.ts";
import type { ContentLimits } from "./content.ts";

/** What goes to a thread; a ParsedMessage comes back. */
export type ThreadOrder = { raw: ArrayBuffer; limits: ContentLimits };

/** The parsed message, or why there is none in words that end a sentence. */
export type ThreadAnswer = { message: ParsedMessage } | { failure: string };

export interface Threads {
  /** Resolves once a thread has answered, failed or run over the deadline; waiting for a thread is not counted. */
  parse(raw: Uint8Array, limits: ContentLimits, wanted: () => boolean): Promise<ThreadAnswer>;
  close(): Promise<void>;
}

type Thread = {
  worker: Worker;
  settle: ((answer: ThreadAnswer) => void) | undefined;
  reap: NodeJS.Timeout | undefined;
};
type Job = {
  raw: Uint8Array;
  limits: ContentLimits;
  wanted: () => boolean;
  done: (answer: ThreadAnswer) => void;
};

const IDLE_MS = 60_000;
// Counts where the runtime has such limits (Node); elsewhere the bounds of the parser have to do.
const HEAP_MB = 1024;

/** At most `most` threads. One that fails or needs longer than `deadlineMs` is ended, and the next job gets a new one. */
export function parserThreads({ most, deadlineMs }: { most: number; deadlineMs: number }): Threads {
  const threads = new Set<Thread>();
  const queue: Job[] = [];

  const end = async (thread: Thread): Promise<void> => {
    threads.delete(thread);
    clearTimeout(thread.reap);
    await thread.worker.terminate();
  };

  const free = (): Thread | undefined => {
    for (const thread of threads) if (!thread.settle) return thread;
    if (threads.size >= most) return undefined;
    const thread = startThread(end);
    threads.add(thread);
    return thread;
  };

  const next = () => {
    while (queue[0] && !queue[0].wanted()) queue.shift()?.done({ failure: "nobody waited for it" });
    const thread = queue.length > 0 ? free() : undefined;
    const job = thread && queue.shift();
    if (!job) return;
    clearTimeout(thread.reap);
    thread.worker.ref();
    const timer = setTimeout(() => {
      thread.settle?.({ failure: `parsing took longer than ${deadlineMs / 1000} seconds` });
      void end(thread);
    }, deadlineMs);
    thread.settle = (answer) => {
      clearTimeout(timer);
      thread.settle = undefined;
      thread.worker.unref();
      thread.reap = setTimeout(() => void end(thread), IDLE_MS).unref();
      job.done(answer);
      queueMicrotask(next);
    };
    order(thread, job);
  };

  return {
    parse: (raw, limits, wanted) =>
      new Promise((done) => {
        queue.push({ raw, limits, wanted, done });
        next();
      }),
    async close() {
      for (const job of queue.splice(0)) job.done({ failure: "the service was stopping" });
      for (const thread of threads) thread.settle?.({ failure: "the service was stopping" });
      await Promise.all([...threads].map(end));
    },
  };
}

function order({ worker }: Thread, { raw, limits }: Job): void {
  // A copy, because what is transferred is gone here and the caller still needs its bytes.
  const copy: ThreadOrder = { raw: new Uint8Array(raw).buffer, limits };
  worker.postMessage(copy, [copy.raw]);
}

function startThread(end: (thread: Thread) => Promise<void>): Thread {
  const resourceLimits = { maxOldGenerationSizeMb: HEAP_MB };
  const worker = new Worker(new URL("../mime-thread.ts", import.meta.url), { resourceLimits });
  const thread: Thread = { worker, settle: undefined, reap: undefined };
  const fail = (failure: string) => {
    thread.settle?.({ failure });
    void end(thread);
  };
  worker.on("message", (message: ParsedMessage) => thread.settle?.({ message }));
  worker.on("error", (error: unknown) => fail(`the parser failed: ${error instanceof Error ? error.message : "?"}`));
  worker.on("exit", () => fail("the parser ended by itself"));
  return thread;
}
