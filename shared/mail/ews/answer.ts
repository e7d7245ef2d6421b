/** The body of an answer, read at the reader's pace; its pauses are bounded, and whoever stops reading cuts the connection. */
import type { IncomingMessage } from "node:http";
import { Problem } from "../../contract/problem.ts";
import { within } from "../../time.ts";
import { problemOf } from "../problems.ts";
import type { EwsResponse } from "./transport/http.ts";

/** The answer on a connection that is released when the last chunk was read, or the reading ends otherwise. */
export function answerFrom(
  message: IncomingMessage,
  by: { idleMs: number; release: (again: boolean) => void; signal: AbortSignal },
): EwsResponse {
  const { release, signal, idleMs } = by;
  const source: AsyncIterator<Buffer> = message[Symbol.asyncIterator]();
  const cut = () => over(false);
  let ended = false;
  function over(again: boolean): void {
    ended = true;
    signal.removeEventListener("abort", cut);
    if (!again) message.destroy();
    release(again && message.headers.connection?.toLowerCase() !== "close");
  }
  message.on("error", () => undefined);
  signal.addEventListener("abort", cut, { once: true });
  const chunks: AsyncIterableIterator<Buffer> = {
    async next() {
      signal.throwIfAborted();
      if (ended) return { done: true, value: undefined };
      try {
        const step = await within(idleMs, "The server's next word", source.next(), signal);
        if (step.done) over(true);
        return step;
      } catch (error) {
        over(false);
        signal.throwIfAborted();
        throw problemOf(error, { step: "command" });
      }
    },
    return() {
      if (!ended) over(false);
      return Promise.resolve({ done: true, value: undefined });
    },
    [Symbol.asyncIterator]: () => chunks,
  };
  return { status: message.statusCode ?? 0, headers: message.headers, chunks };
}

/** All of an answer as text; throws when it is larger than `most` bytes. */
export async function whole(chunks: AsyncIterable<Buffer>, most: number): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > most) throw new Problem("protocol", `The server's answer is larger than ${most} bytes`);
    parts.push(chunk);
  }
  return Buffer.concat(parts).toString("utf8");
}
