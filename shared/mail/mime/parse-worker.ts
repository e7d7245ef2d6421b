/** A parser thread: parses one message at a time and posts the result. */
import { parentPort } from "node:worker_threads";
import { parseMessage } from "./message.ts";
import type { ContentLimits } from "./content.ts";

/** The request to a thread. It answers with a ParsedMessage. */
export type ParseRequest = { raw: ArrayBuffer; limits: ContentLimits };

parentPort?.on("message", async ({ raw, limits }: ParseRequest) => {
  const message = await parseMessage(new Uint8Array(raw), limits);
  // Frees the bytes before the result is copied. A thread at rest may not collect its garbage for long.
  raw.transfer(0);
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of this process, no window
  parentPort?.postMessage(message);
});
