/** Facts as a stream of server-sent events that never buffers without end. */
import type { Fact, Facts } from "../../shared/telemetry/events.ts";
import { slept } from "../../shared/time.ts";

const HEARTBEAT_MS = 15_000;
/** Characters that may wait for a slow reader on top of the sockets' own buffers: some 20,000 facts. */
const MOST_WAITING = 4_000_000;

/**
 * A stream of those facts that `wanted` lets through, with a comment each 15 seconds, until the reader goes away or the signal
 * aborts. A reader that lets about 4 MB wait is cut off: the stream fails, and with it the connection.
 */
export function eventStream(
  facts: Pick<Facts, "subscribe">,
  wanted: (fact: Fact) => boolean,
  signal: AbortSignal,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const gone = new AbortController();
  const ended = AbortSignal.any([signal, gone.signal]);
  let waiting = "retry: 3000\n\n";
  let { promise: news, resolve: wake } = Promise.withResolvers<void>();
  const push = (text: string) => {
    waiting += text;
    if (waiting.length > MOST_WAITING) gone.abort();
    wake();
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        wake();
        const unsubscribe = facts.subscribe((fact) => {
          if (wanted(fact)) push(`event: ${fact.kind}\ndata: ${JSON.stringify(fact)}\n\n`);
        });
        const end = () => {
          unsubscribe();
          wake();
          // A text, because runtimes print this to stderr, and an Error with its stack would look like a fault.
          if (gone.signal.aborted) controller.error("A slow reader of the event stream was cut off");
          else controller.close();
        };
        void beat(push, ended).then(end);
      },
      async pull(controller) {
        await news;
        if (ended.aborted) return;
        controller.enqueue(encoder.encode(waiting));
        waiting = "";
        ({ promise: news, resolve: wake } = Promise.withResolvers<void>());
      },
      cancel: () => gone.abort(),
    },
    { highWaterMark: 0 },
  );
}

/** Resolves when the signal aborts. */
async function beat(push: (text: string) => void, signal: AbortSignal): Promise<void> {
  while (await slept(HEARTBEAT_MS, signal)) push(": still here\n\n");
}
