/**
 * The parser of the service. Small messages are parsed at once, large ones in a thread, so that no message holds up the
 * others. If a message takes too long, or its thread fails, it is delivered with its header alone.
 */
import { unlessAborted } from "../../concurrency/abort.ts";
import type { ParsedMessage } from "../../contract/received.ts";
import type { ContentLimits } from "./content.ts";
import { parseHeadersOnly, parseMessage } from "./message.ts";
import { parserThreads } from "./threads.ts";

export interface MimeParser {
  /** Parses any bytes and leaves them unchanged. Rejects only with the signal's reason. */
  parse(raw: Uint8Array, limits: ContentLimits, signal?: AbortSignal): Promise<ParsedMessage>;
  /** Ends the threads. Messages in them are delivered with their headers alone. */
  close(): Promise<void>;
}

type Options = {
  threads?: number;
  /** How long one message may take in a thread. */
  deadlineMs?: number;
  /** Messages up to this size are parsed in the main thread: in a few ms, or about 50 ms for the worst ones. */
  inlineBytes?: number;
};

const DEFAULTS = { threads: 2, deadlineMs: 30_000, inlineBytes: 256 * 1024 };

/** winmail.dat of this size or more is parsed in a thread, because its rich text can grow to nine times its size. */
const UNPACKING_BYTES = 64 * 1024;

function mayUnpack(raw: Uint8Array): boolean {
  if (raw.byteLength < UNPACKING_BYTES) return false;
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  return bytes.includes("ms-tnef") || bytes.includes("winmail.dat");
}

/** A parser with its own threads. They start when needed, and do not keep the process alive. */
export function mimeParser(options: Options = {}): MimeParser {
  const { threads: most, deadlineMs, inlineBytes } = { ...DEFAULTS, ...options };
  const threads = parserThreads({ most, deadlineMs });

  async function parseInThread(raw: Uint8Array, limits: ContentLimits, signal?: AbortSignal): Promise<ParsedMessage> {
    const result = await threads.parse(raw, limits, signal);
    return "message" in result ? result.message : parseHeadersOnly(raw, `content left out, ${result.failure}`);
  }

  return {
    async parse(raw, limits, signal) {
      signal?.throwIfAborted();
      if (raw.byteLength <= inlineBytes && !mayUnpack(raw)) return parseMessage(raw, limits);
      return signal ? unlessAborted(parseInThread(raw, limits, signal), signal) : parseInThread(raw, limits);
    },
    close: () => threads.close(),
  };
}
