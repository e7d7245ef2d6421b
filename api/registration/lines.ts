/** The lines of a body that comes bit by bit. No more than one line and one chunk of it is held. */
import { Problem } from "../../shared/contract/problem.ts";
import { withTimeout } from "../../shared/time.ts";

/** `text` is undefined if the line is longer than a mailbox can be. Numbers begin with 1. */
export type Line = { number: number; text: string | undefined };

/** Certificates are the largest part of a mailbox. */
export const MAX_LINE_BYTES = 256 * 1024;
/** How long the sender may pause. */
const MAX_PAUSE_MS = 60_000;
const LF = 10;

/** Throws `timeout` when nothing comes for a minute, `malformed` when the sender goes away, or the signal's reason. */
export async function* readLines(
  body: ReadableStream<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Line, void, undefined> {
  let [number, size] = [0, 0];
  let parts: Uint8Array[] = [];
  const add = (part: Uint8Array) => {
    size += part.length;
    if (size <= MAX_LINE_BYTES) parts.push(part);
    else parts = [];
  };
  const take = (): Line => {
    const text = size > MAX_LINE_BYTES ? undefined : Buffer.concat(parts).toString();
    [number, size, parts] = [number + 1, 0, []];
    return { number, text };
  };
  for await (const chunk of readChunks(body, signal)) {
    let from = 0;
    for (let end = chunk.indexOf(LF); end >= 0; end = chunk.indexOf(LF, from)) {
      add(chunk.subarray(from, end));
      from = end + 1;
      yield take();
    }
    add(chunk.subarray(from));
  }
  if (size > 0) yield take();
}

async function* readChunks(
  body: ReadableStream<Uint8Array>,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array, void, undefined> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await withTimeout(MAX_PAUSE_MS, "Waiting for the next line", reader.read(), signal);
      if (done) return;
      yield value;
    }
  } catch (error) {
    if (error instanceof Problem || signal.aborted) throw error;
    throw new Problem("malformed", "The body ended before it was whole.", { retry: "never", cause: error });
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}
