/** Messages on a mail server: where they lie, how far a folder was handed over, and what was just seen. */
import * as v from "valibot";

/**
 * Where one message lies: the folder, the folder's epoch (IMAP UIDVALIDITY; a changed epoch means all uids are
 * void), and the uid in it. Protocols without ascending numbers give messages numbers of their own, in the order in which they
 * were seen, and keep the server's name for a message (POP3 UIDL, EWS item id) in `key`. `size` in bytes and `receivedAt` (IMAP INTERNALDATE) as the server told them.
 */
export const MessageRef = v.object({
  folder: v.string(),
  epoch: v.string(),
  uid: v.pipe(v.number(), v.integer(), v.minValue(1)),
  size: v.pipe(v.number(), v.integer(), v.minValue(0)),
  receivedAt: v.string(),
  key: v.exactOptional(v.string()),
});
export type MessageRef = v.InferOutput<typeof MessageRef>;

/**
 * The epoch of messages that are looked up once more (resync) where nobody remembers which numbers they had. The ledger holds one
 * while it is worked on and forgets it afterwards; its content is recognised as that of a moved message is.
 */
export const AGAIN = "again";

/**
 * How far one folder was handed over: every message with a uid up to `uid` in this epoch is in the ledger's or a
 * delivery's care. `state` is what else the protocol needs to go on from here, its own business (null for IMAP). `newest` is the receivedAt of the newest message handed over:
 * after a changed epoch the folder is read again from a little before it.
 */
export const Cursor = v.object({
  folder: v.string(),
  epoch: v.string(),
  uid: v.pipe(v.number(), v.integer(), v.minValue(0)),
  state: v.nullable(v.string()),
  newest: v.string(),
});
export type Cursor = v.InferOutput<typeof Cursor>;

/** New messages of one folder, and the cursor that lies after them. `messages` may be empty: only the cursor moved. */
export type Arrival = { messages: MessageRef[]; cursor: Cursor };

/** One downloaded message: its RFC 822 bytes and the flags the server held for it. */
export type FetchedMessage = { ref: MessageRef; raw: Uint8Array; flags: string[] };

/**
 * A folder as the server lists it. `specialUse` is RFC 6154 (`\Sent`, `\Drafts`, ...); `class` is what Exchange holds it for
 * (IPF.Note, IPF.Appointment, ...), absent where all folders are for mail.
 */
export type Folder = {
  path: string;
  name: string;
  parent: string | null;
  specialUse: string | null;
  selectable: boolean;
  class?: string;
};
