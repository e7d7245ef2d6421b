/**
 * The body of an answer, read at the reader's speed. Pauses have a deadline. A reader who stops early closes the
 * connection.
 */
import type { IncomingMessage, IncomingHttpHeaders } from "node:http";
import { Problem } from "../../contract/problem.ts";
import { withTimeout } from "../../time.ts";
import { excessProblem, sizeText } from "../net/excess.ts";
import { toProblem } from "../problems.ts";
import type { RequestRecord } from "./record/tap.ts";

/**
 * The answer. Its connection is released when the last chunk was read, or when reading ends for another reason. Throws
 * `protocol` for a compressed answer: no request asks for one, and a small one can become large.
 */
export function toHttpResponse(
  message: IncomingMessage,
  by: {
    idleMs: number;
    maxBytes: number;
    release: (again: boolean) => void;
    signal: AbortSignal;
    record: RequestRecord | undefined;
  },
): HttpResponse {
  const { release, signal, idleMs, maxBytes, record } = by;
  const encoding = message.headers["content-encoding"]?.trim().toLowerCase() || "identity";
  if (message.statusCode === 200 && encoding !== "identity") {
    message.destroy();
    const cause = "The server compressed its answer, although the service does not ask for that";
    const fix = "Switch the compression of answers off at the server, or at the proxy before it.";
    throw new Problem("protocol", cause, { retry: "never", fix });
  }
  let bytes = 0;
  const source: AsyncIterator<Buffer> = message[Symbol.asyncIterator]();
  const abort = () => finish(false);
  let ended = false;
  function finish(reusable: boolean): void {
    ended = true;
    record?.ended(reusable);
    signal.removeEventListener("abort", abort);
    if (!reusable) message.destroy();
    release(reusable && message.headers.connection?.toLowerCase() !== "close");
  }
  message.on("error", () => undefined);
  signal.addEventListener("abort", abort, { once: true });
  const chunks: AsyncIterableIterator<Buffer> = {
    async next() {
      signal.throwIfAborted();
      if (ended) return { done: true, value: undefined };
      try {
        const step = await withTimeout(idleMs, "The rest of the server's answer", source.next(), signal);
        if (!step.done) record?.part(step.value);
        if (step.done) finish(true);
        else if ((bytes += step.value.length) > maxBytes)
          throw excessProblem(`an answer of over ${sizeText(maxBytes)}`);
        return step;
      } catch (error) {
        finish(false);
        signal.throwIfAborted();
        throw toProblem(error, { step: "command" });
      }
    },
    return() {
      if (!ended) finish(false);
      return Promise.resolve({ done: true, value: undefined });
    },
    [Symbol.asyncIterator]: () => chunks,
  };
  return { status: message.statusCode ?? 0, headers: message.headers, chunks };
}

/** The whole answer as text. Throws when it is larger than `maxBytes`. */
export async function readText(chunks: AsyncIterable<Buffer>, maxBytes: number): Promise<string> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.length;
    if (bytes > maxBytes) throw excessProblem(`an answer of over ${sizeText(maxBytes)}`);
    parts.push(chunk);
  }
  return Buffer.concat(parts).toString("utf8");
}
/** Read `chunks` to their end, or call `chunks.return()`, which closes the connection. */
export type HttpResponse = { status: number; headers: IncomingHttpHeaders; chunks: AsyncIterableIterator<Buffer> };
