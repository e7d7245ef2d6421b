/** `MailConnection`: a mailbox to receive from, whatever its protocol. */
import type { AfterDeliveryAction } from "../contract/mailbox.ts";
import type { ServerFacts } from "../contract/learned.ts";
import type { Arrival, Cursor, FetchedMessage, Folder, MessageRef } from "../contract/message.ts";
import type { Problem } from "../contract/problem.ts";
import type { PlacedCopy } from "../contract/task.ts";

/** What a watch reports between arrivals. */
export type WatchEvent =
  /** Logged in and compared with the server. `push` is false if the server cannot notify and is polled instead. */
  | { kind: "connected"; push: boolean; ms: number; capabilities: string[] }
  /** The server just answered, so the connection works. */
  | { kind: "verified" }
  /**
   * Folders that cannot be opened now, in words (null: all can). `watched` is false when no folder is left to watch.
   */
  | { kind: "folders"; problem: Problem | null; watched: boolean }
  /** The server notifies late, or not about all mail. The folder is polled too. */
  | { kind: "slowPush"; folder: string }
  /** A run of a polled mailbox begins. The next one is due at `until` (milliseconds since 1970). */
  | { kind: "run"; until: number }
  /** The run has ended, and everything it found was handed over. `missed` runs were due meanwhile. */
  | { kind: "ran"; ms: number; missed: number };

/**
 * A message for a folder: its bytes, the Message-IDs under which the folder may already have it, flags and internal
 * date.
 */
export type MessageToAppend = { raw: Uint8Array; messageIds: string[]; flags: string[]; date: Date };

/**
 * What a second look found. `alone`: nobody else has put the message there. `removed`: somebody had, and ours is gone.
 * `kept`: somebody had, and ours stays, because the other one is not proven to be the same or somebody has marked ours.
 * `unclear`: ours is not there any more.
 */
export type CopyVerdict = "alone" | "removed" | "kept" | "unclear";

/** A downloaded message, or why the server does not give it. */
export type FetchResult = FetchedMessage | { ref: MessageRef; problem: Problem };

/** A message that was left unchanged on the server, and why. */
export type KeptMessage = { ref: MessageRef; reason: string };

export interface MailConnection {
  /**
   * Yields the messages after the cursors, now and whenever something arrives, until the signal aborts (then it
   * returns). Folders without a cursor start at the mailbox's `since`. An arrival counts as handed over only when the
   * caller asks for the next one. Throws a Problem when the connection fails or is dead, or when the server refuses. It
   * never reconnects by itself.
   */
  watch(
    cursors: Cursor[],
    tell: (sign: WatchEvent) => void,
    signal: AbortSignal,
  ): AsyncGenerator<Arrival, void, undefined>;
  /**
   * Messages of the watched folders received at or after `date`, in batches of one folder each, whatever the cursor
   * says (for a resync). The cursors have the numbers of messages if the server has none (POP3). Messages without a
   * number are left to the watch.
   */
  listSince(date: Date, cursors: Cursor[], signal: AbortSignal): AsyncGenerator<MessageRef[], void, undefined>;
  /**
   * Downloads messages of one folder, in any order, without changing their flags. Only messages that the server says it
   * no longer has are left out. A message without content, or with less than the server announced, is yielded as a
   * Problem and does not stop the others. Throws `gone` with every message when the folder's epoch changed. When the
   * connection fails, it first yields what came before.
   */
  fetch(messages: MessageRef[], signal: AbortSignal): AsyncGenerator<FetchResult, void, undefined>;
  /**
   * The messages of the watched folders with these Message-IDs, in batches of one folder each. Absent if the protocol
   * cannot search.
   */
  findByMessageIds?(messageIds: string[], signal: AbortSignal): AsyncGenerator<MessageRef[], void, undefined>;
  /**
   * The headers of messages without the rest, as far as the server gives them. Absent if that is not worth a round
   * trip.
   */
  fetchHeaders?(
    messages: MessageRef[],
    signal: AbortSignal,
  ): AsyncGenerator<{ ref: MessageRef; head: Uint8Array }, void, undefined>;
  /**
   * Marks, deletes or moves messages. Missing messages are skipped. Returns those that it left unchanged, because
   * nothing proves that the server still means the same message.
   */
  applyAfterDelivery(messages: MessageRef[], action: AfterDeliveryAction, signal: AbortSignal): Promise<KeptMessage[]>;
  listFolders(signal: AbortSignal): Promise<Folder[]>;
  /**
   * The folder for sent mail (RFC 6154), created if there is none. Null if the server fills it by itself. Absent
   * without folders.
   */
  getSentFolder?(signal: AbortSignal): Promise<string | null>;
  /**
   * Puts a message into a folder, unless it has one with any of its Message-IDs. False if it has one, otherwise true, or
   * what `checkCopy` needs. Absent if the protocol cannot.
   */
  append?(folder: string, message: MessageToAppend, signal: AbortSignal): Promise<boolean | PlacedCopy>;
  /**
   * Looks again at a message that `append` has put there. If somebody else has put the same message there after it, with
   * the same content, and nobody has marked ours, ours is removed. Absent if the protocol cannot.
   */
  checkCopy?(copy: PlacedCopy, signal: AbortSignal): Promise<CopyVerdict>;
  /** True while connected and logged in. */
  readonly open: boolean;
  /** What the server said of itself on the last connection; undefined before the first. Costs nothing. */
  describe?(): ServerFacts | undefined;
  /** Logs out within 2 seconds, or cuts the connection. Never throws. */
  close(): Promise<void>;
}

/** One step of a preflight. A failed step has `cause` and `fix` in plain language; `detail` is what was found. */
export type PreflightStep = {
  name: "dns" | "tcp" | "tls" | "login" | "capabilities" | "folders" | "idle" | "send" | "deliver";
  ok: boolean;
  ms: number;
  cause?: string;
  fix?: string;
  detail?: string;
};
export type PreflightReport = { ok: boolean; steps: PreflightStep[] };
