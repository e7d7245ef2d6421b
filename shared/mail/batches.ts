/** How many messages are handed over together: one batch becomes one task. */
import type { MessageRef } from "../contract/message.ts";

/** Small enough to repeat, large enough to save round trips. */
const BATCH_MESSAGES = 100;
const BATCH_BYTES = 8 * 1024 * 1024;

/** Cuts a list into batches of bounded count and size. A large message is a batch of its own. */
export function* splitIntoBatches<T extends Pick<MessageRef, "size">>(list: T[]): Generator<T[], void, undefined> {
  let batch: T[] = [];
  let bytes = 0;
  for (const message of list) {
    if (batch.length > 0 && (batch.length >= BATCH_MESSAGES || bytes + message.size > BATCH_BYTES)) {
      yield batch;
      [batch, bytes] = [[], 0];
    }
    batch.push(message);
    bytes += message.size;
  }
  if (batch.length > 0) yield batch;
}
