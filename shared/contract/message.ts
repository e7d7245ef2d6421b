/** Messages on a mail server: where they lie, how far a folder was handed over, and arrivals. */
import * as v from "valibot";

/**
 * Where one message lies: the folder, the folder's epoch (IMAP UIDVALIDITY; after a change of epoch all uids are void),
 * and the uid in it. For protocols without ascending numbers the service assigns numbers in the order in which it saw
 * the messages; `key` is the server's own name for the message (POP3 UIDL, EWS item id). `size` (bytes, 0
 * when unknown) and `receivedAt` (IMAP INTERNALDATE) are as the server said. `undated`: the server gave no date, or one
 * that cannot be true; then `receivedAt` is when the message was seen. `perhapsKnown`: the server left out names that it
 * had given before, so this message may be one of those, although its uid is new. Then equal content is the same message.
 * `head` (POP3): a fingerprint of the header of the message that was downloaded under this name. Only a message with
 * this header may be deleted.
 */
export const MessageRef = v.object({
  folder: v.string(),
  epoch: v.string(),
  uid: v.pipe(v.number(), v.integer(), v.minValue(1)),
  size: v.pipe(v.number(), v.integer(), v.minValue(0)),
  receivedAt: v.string(),
  key: v.exactOptional(v.string()),
  undated: v.exactOptional(v.literal(true)),
  perhapsKnown: v.exactOptional(v.literal(true)),
  head: v.exactOptional(v.string()),
});
export type MessageRef = v.InferOutput<typeof MessageRef>;

/**
 * The epoch of messages of a resync, if their numbers are not known any more. The ledger holds such a message only
 * while somebody works on it. Its fingerprint shows whether it was delivered before.
 */
export const RESYNC_EPOCH = "again";

/**
 * How far one folder was handed over: the ledger or a delivery holds every message with a uid up to `uid` in this
 * epoch. `state` is what the protocol needs to continue from here (null for IMAP). `newest` is the receivedAt of the
 * newest message that was handed over: after a change of epoch the folder is read again from a little before it.
 */
export const Cursor = v.object({
  folder: v.string(),
  epoch: v.string(),
  uid: v.pipe(v.number(), v.integer(), v.minValue(0)),
  state: v.nullable(v.string()),
  newest: v.string(),
});
export type Cursor = v.InferOutput<typeof Cursor>;

/**
 * Messages that lay on the server before anybody watched: at the first look at a folder, or when a renumbered folder is
 * read again. Only what was received `since` is wanted.
 */
export const Backlog = v.object({ kind: v.picklist(["first", "reread"]), since: v.string() });
export type Backlog = v.InferOutput<typeof Backlog>;

/**
 * New messages of one folder, and the cursor after them. `messages` may be empty: then only the cursor moved. `total` is
 * the number of messages of a renumbered folder that were received since then, handed over before or not.
 */
export type Arrival = { messages: MessageRef[]; cursor: Cursor; backlog?: Backlog & { total?: number } };

/**
 * A downloaded message: its RFC 822 bytes and its flags on the server. `leftOut` says in words what the bytes lack,
 * because the server does not give it.
 */
export type FetchedMessage = { ref: MessageRef; raw: Uint8Array; flags: string[]; leftOut?: string[] };

/**
 * A folder as the server lists it. `specialUse` is RFC 6154 (`\Sent`, `\Drafts`, ...). `class` is Exchange's folder
 * class (IPF.Note, IPF.Appointment, ...); it is absent if all folders are for mail.
 */
export type Folder = {
  path: string;
  name: string;
  parent: string | null;
  specialUse: string | null;
  selectable: boolean;
  class?: string;
};
