/** Facts as server-sent events, with a bounded buffer. */
import type { Fact, Facts } from "../../shared/telemetry/events.ts";
import { sleep } from "../../shared/time.ts";

const HEARTBEAT_MS = 15_000;
/** Characters that may wait for a slow reader, besides the sockets' own buffers: about 20,000 facts. */
const MAX_BUFFERED_CHARS = 4_000_000;

type StreamOptions = {
  accepts: (fact: Fact) => boolean;
  untilRevoked: (signal: AbortSignal) => Promise<void>;
  seat: Disposable;
};

/**
 * A stream of those facts for which `accepts` is true, with a comment every 15 seconds, until the reader goes away, the
 * signal aborts or `untilRevoked` resolves. If about 4 MB wait for a slow reader, the stream fails, and its connection
 * ends. The seat is free when the stream has ended.
 */
export function eventStream(
  facts: Pick<Facts, "subscribe">,
  { accepts, untilRevoked, seat }: StreamOptions,
  signal: AbortSignal,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const disconnected = new AbortController();
  const revoked = new AbortController();
  const ended = AbortSignal.any([signal, disconnected.signal, revoked.signal]);
  let buffer = "retry: 3000\n\n";
  let { promise: dataReady, resolve: wake } = Promise.withResolvers<void>();
  const push = (text: string) => {
    buffer += text;
    if (buffer.length > MAX_BUFFERED_CHARS) disconnected.abort();
    wake();
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        wake();
        const unsubscribe = facts.subscribe((fact) => {
          if (accepts(fact)) push(`event: ${fact.kind}\ndata: ${JSON.stringify(fact)}\n\n`);
        });
        const end = () => {
          unsubscribe();
          seat[Symbol.dispose]();
          wake();
          // A string, because runtimes print this to stderr, and an Error with its stack would look like a failure of
          // the service.
          if (disconnected.signal.aborted) controller.error("A slow reader of the event stream was cut off");
          else controller.close();
        };
        void sendHeartbeats(push, ended).then(end);
        void untilRevoked(ended).then(() => revoked.abort());
      },
      async pull(controller) {
        await dataReady;
        if (ended.aborted) return;
        controller.enqueue(encoder.encode(buffer));
        buffer = "";
        ({ promise: dataReady, resolve: wake } = Promise.withResolvers<void>());
      },
      cancel: () => disconnected.abort(),
    },
    { highWaterMark: 0 },
  );
}

/** Resolves when the signal aborts. */
async function sendHeartbeats(push: (text: string) => void, signal: AbortSignal): Promise<void> {
  while (await sleep(HEARTBEAT_MS, signal)) push(": still here\n\n");
}
