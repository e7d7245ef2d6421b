/** The version of a message, as it stands in its change key and its entity tag. */
import type { Message } from "./store.ts";

/** What the change key says: how often the message has changed. */
export function changeKey(message: Message): string {
  const bytes = Buffer.alloc(20);
  bytes.write("CT", 0, "latin1");
  bytes.writeUInt32BE(message.number, 8);
  bytes.writeUInt32BE(message.version, 16);
  return `CQAAABYA${bytes.toString("base64")}`;
}

export function etag(message: Message): string {
  return `W/"${changeKey(message)}"`;
}
