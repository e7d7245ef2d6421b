/** What the server keeps of sending: what left, and large files that are not whole yet. */
import type { Message } from "../store/store.ts";

/** A message that left for its recipients. */
export type Sent = {
  at: Date;
  /** The user principal name of the mailbox that sent it. */
  user: string;
  from: string;
  recipients: string[];
  messageId: string;
  /** As the recipients get it: without Bcc. */
  raw: Buffer;
  /** The immutable id in Sent Items; undefined where it was not filed. */
  filedAs: string | undefined;
};

/** A file that comes in pieces. */
export type Upload = {
  message: Message;
  clientId: string;
  name: string;
  type: string;
  contentId: string | undefined;
  size: number;
  pieces: Buffer[];
  received: number;
  expiresAt: number;
};
