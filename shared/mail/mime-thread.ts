/** One thread of the parser: takes a message at a time and answers with what was parsed. */
import { parentPort } from "node:worker_threads";
import { parseMessage } from "./mime/message.ts";
import type { ThreadOrder } from "./mime/threads.ts";

parentPort?.on("message", async ({ raw, limits }: ThreadOrder) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a port of this process, no window
  parentPort?.postMessage(await parseMessage(new Uint8Array(raw), limits));
});
