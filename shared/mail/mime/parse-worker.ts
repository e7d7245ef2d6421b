/** A parser thread: parses one message at a time and posts the result. */
import { parentPort } from "node:worker_threads";
import type { ParsedMessage } from "../../contract/received.ts";
import { parseMessage } from "./message.ts";
import type { ContentLimits } from "./content.ts";

/** The request to a thread. It answers with a ParsedMessage. */
export type ParseRequest = { raw: ArrayBuffer; limits: ContentLimits };

parentPort?.on("message", async ({ raw, limits }: ParseRequest) => {
  const message = await parseMessage(new Uint8Array(raw), limits);
  const moved = moveFiles(message);
  // Frees the bytes before the result is sent. A thread at rest may not collect its garbage for long.
  if (!moved.has(raw)) raw.transfer(0);
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of this process, no window
  parentPort?.postMessage(message, [...moved]);
});

/** A smaller file is copied. It may share its memory with anything. */
const MOVED_BYTES = 256 * 1024;

/** The memory of the large files, which can be moved to the other side. A small file gets memory of its own. */
function moveFiles({ attachments }: ParsedMessage): Set<ArrayBuffer> {
  const moved = new Set<ArrayBuffer>();
  for (const file of attachments) {
    if (!file.content) continue;
    const { buffer, byteLength } = file.content;
    if (byteLength >= MOVED_BYTES && buffer instanceof ArrayBuffer) moved.add(buffer);
    else file.content = new Uint8Array(file.content);
  }
  return moved;
}
