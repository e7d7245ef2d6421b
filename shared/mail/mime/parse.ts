/**
 * The parser the service uses: small messages at once, large ones in a thread, so that no message holds up the others. A message
 * that takes too long, or breaks its thread, is delivered by its header alone.
 */
import type { ParsedMessage } from "../../contract/received.ts";
import type { ContentLimits } from "./content.ts";
import { headersOnly, parseMessage } from "./message.ts";
import { parserThreads } from "./threads.ts";

export interface MimeParser {
  /** Parses any bytes, which stay the caller's. Rejects only with the signal's reason. */
  parse(raw: Uint8Array, limits: ContentLimits, signal?: AbortSignal): Promise<ParsedMessage>;
  /** Ends the threads; messages in them are delivered by their header. */
  close(): Promise<void>;
}

type Options = {
  threads?: number;
  /** What one message may take in a thread. */
  deadlineMs?: number;
  /** Messages up to this size are parsed here: a few ms as a rule, about 50 ms for the worst ever made. */
  inlineBytes?: number;
};

const DEFAULTS = { threads: 2, deadlineMs: 30_000, inlineBytes: 256 * 1024 };

/** A parser with its own threads, which are started when needed and do not keep the process alive. */
export function mimeParser(options: Options = {}): MimeParser {
  const { threads: most, deadlineMs, inlineBytes } = { ...DEFAULTS, ...options };
  const threads = parserThreads({ most, deadlineMs });

  async function inThread(raw: Uint8Array, limits: ContentLimits, signal?: AbortSignal): Promise<ParsedMessage> {
    const answer = await threads.parse(raw, limits, () => !signal?.aborted);
    return "message" in answer ? answer.message : headersOnly(raw, `content left out, ${answer.failure}`);
  }

  return {
    async parse(raw, limits, signal) {
      signal?.throwIfAborted();
      if (raw.byteLength <= inlineBytes) return parseMessage(raw, limits);
      return signal ? unlessAborted(inThread(raw, limits, signal), signal) : inThread(raw, limits);
    },
    close: () => threads.close(),
  };
}

async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>();
  const stop = () => reject(signal.reason);
  signal.addEventListener("abort", stop, { once: true });
  try {
    return await Promise.race([work, promise]);
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
