/** The outside world of mail behind two interfaces: a mailbox to receive from, whatever its protocol. */
import type { Tidying } from "../contract/mailbox.ts";
import type { Arrival, Cursor, FetchedMessage, Folder, MessageRef } from "../contract/message.ts";
import type { Problem } from "../contract/problem.ts";

/** What a watch tells about itself between arrivals. */
export type WatchSign =
  /** Logged in and compared with the server. `push` is false where the server cannot notify and is polled instead. */
  | { kind: "connected"; push: boolean; ms: number; capabilities: string[] }
  /** The server just answered: the connection is known to hear. */
  | { kind: "verified" }
  /** A run of a polled mailbox begins; the next one falls due at `until` (milliseconds since 1970). */
  | { kind: "run"; until: number }
  /** The run is over, all it found handed over; so many runs fell due meanwhile. */
  | { kind: "ran"; ms: number; missed: number };

/** A message for a folder: its bytes, what it may already be known by there, flags and internal date. */
export type Filed = { raw: Uint8Array; messageIds: string[]; flags: string[]; date: Date };

export interface MailConnection {
  /**
   * Yields what lies after the cursors, now and whenever something arrives, until the signal aborts (then it returns).
   * Folders without a cursor start at the mailbox's `since`. Nothing counts as seen before the caller asks for the next
   * arrival. Throws a Problem when the connection fails, is deaf, or the server refuses; it never reconnects by itself.
   */
  watch(
    cursors: Cursor[],
    tell: (sign: WatchSign) => void,
    signal: AbortSignal,
  ): AsyncGenerator<Arrival, void, undefined>;
  /**
   * Messages of the watched folders received at or after `date`, in batches of one folder each, whatever the cursor says (for
   * resync). The cursors tell what number a message has where the server gives none (POP3); unnumbered ones are left to the watch.
   */
  since(date: Date, cursors: Cursor[], signal: AbortSignal): AsyncGenerator<MessageRef[], void, undefined>;
  /**
   * Downloads messages of one folder, in any order, leaving their flags alone. What the server no longer has is left
   * out. Throws `gone` with every message when the folder's epoch changed. One message that the server cannot give does
   * not keep the others back: it is yielded as a Problem.
   */
  fetch(
    messages: MessageRef[],
    signal: AbortSignal,
  ): AsyncGenerator<FetchedMessage | { ref: MessageRef; problem: Problem }, void, undefined>;
  /** The messages of the watched folders with these Message-IDs, in batches of one folder each; absent where the protocol cannot search. */
  find?(messageIds: string[], signal: AbortSignal): AsyncGenerator<MessageRef[], void, undefined>;
  /** The headers of messages without the rest, as far as the server gives them; absent where that is not worth a round trip. */
  heads?(
    messages: MessageRef[],
    signal: AbortSignal,
  ): AsyncGenerator<{ ref: MessageRef; head: Uint8Array }, void, undefined>;
  /** Marks, deletes or moves messages; messages that are gone are skipped. */
  tidy(messages: MessageRef[], action: Tidying, signal: AbortSignal): Promise<void>;
  folders(signal: AbortSignal): Promise<Folder[]>;
  /** The folder for sent mail (RFC 6154), made when there is none; null where the server fills it by itself. Absent without folders. */
  sentFolder?(signal: AbortSignal): Promise<string | null>;
  /** Puts a message into a folder unless one with any of its Message-IDs is there; absent where the protocol cannot. */
  append?(folder: string, message: Filed, signal: AbortSignal): Promise<void>;
  /** True while connected and logged in. */
  readonly open: boolean;
  /** Logs out within 2 seconds, or cuts the connection. Never throws. */
  close(): Promise<void>;
}

/** One step of a preflight: `cause` and `fix` in plain language when it failed, `detail` what was found. */
export type PreflightStep = {
  name: "dns" | "tcp" | "tls" | "login" | "capabilities" | "folders" | "idle" | "send";
  ok: boolean;
  ms: number;
  cause?: string;
  fix?: string;
  detail?: string;
};
export type PreflightReport = { ok: boolean; steps: PreflightStep[] };
