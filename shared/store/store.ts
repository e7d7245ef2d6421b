/** What every node must agree on and what must survive: small interfaces, one per concern, behind one Store. */
import type { Delivery, DeliveryState } from "../contract/delivery.ts";
import type { Mailbox, MailboxState, MailboxStatus } from "../contract/mailbox.ts";
import type { Cursor, MessageRef } from "../contract/message.ts";
import type { SendState, Sending } from "../contract/sending.ts";
import type { Fact } from "../telemetry/events.ts";

export type Page<T> = { items: T[]; next: string | null; total: number };

/** `cursor` is an opaque `next` of an earlier page; `limit` 1 to 1,000. */
export type MailboxQuery = { limit: number; cursor?: string; status?: MailboxStatus; address?: string };
export type MailboxWithState = { mailbox: Mailbox; state: MailboxState };
/** What was seen of a mailbox as it was in this revision. */
export type Observed = { id: string; revision: number; state: MailboxState };

/** The registered mailboxes. Secrets are sealed before anything is written. */
export interface Mailboxes {
  /**
   * Creates (`revision` 0) or replaces a mailbox and returns it with its new revision, durably. Throws `conflict` when
   * the stored revision is not the given one: somebody else changed it since it was read. With `state` it starts over with that
   * one; nobody sees the new revision with the old state.
   */
  put(mailbox: Mailbox, state?: MailboxState): Promise<Mailbox>;
  /**
   * Writes what the service itself learned of a mailbox (a rotated token, an endpoint that is gone), keeping the revision: nothing
   * restarts because of it. Ignored when the stored revision is another one by now.
   */
  amend(mailbox: Mailbox): Promise<void>;
  get(id: string): Promise<MailboxWithState | undefined>;
  /** In the order of ids. */
  list(query: MailboxQuery): Promise<Page<MailboxWithState>>;
  /** Removes a mailbox with all that belongs to it: state, cursors, ledger, deliveries, facts. False if there was none. */
  remove(id: string): Promise<boolean>;
  /**
   * What subscriptions say of themselves. Ignored for mailboxes that are gone or have another revision by now: a subscription that
   * is about to stop must not undo what a pause or new credentials set back.
   */
  observe(states: Observed[]): Promise<void>;
  /** The id and revision of every mailbox that should be listened to (not paused), for reconciling. */
  wanted(): Promise<{ id: string; revision: number }[]>;
}

/** How far each folder was handed over, guarded by fences. */
export interface Cursors {
  /** A number that only grows, from owner to owner of this mailbox. */
  fence(mailbox: string): Promise<number>;
  read(mailbox: string): Promise<Cursor[]>;
  /**
   * Moves the cursor of one folder and puts the messages into the ledger's care (state free unless already known).
   * Throws `conflict` when a newer fence has been given out: this owner is no longer the owner.
   */
  advance(mailbox: string, cursor: Cursor, messages: MessageRef[], fence: number): Promise<void>;
  /** Puts messages back into the ledger's care as free, whatever became of them before (resync). */
  reopen(mailbox: string, messages: MessageRef[]): Promise<void>;
}

/** free: never handed over or given back; claimed: somebody works on it; done: delivered, or a delivery record has it. */
export type Claim = "yours" | "busy" | "done";

/**
 * Whose content a message has. `new`: nobody else's, deliver it. `duplicate`: it was delivered, from this or another place
 * (moved, renumbered). `busy`: it is being delivered from another place now, look again later. `twin`: another message of the
 * same folder and epoch has equal content, so this one needs an id of its own.
 */
export type Identity = { kind: "new" | "duplicate" | "busy"; twin: boolean };

/**
 * The `once` of the service: each message of a mailbox is claimed by one worker at a time and done once. Its size follows
 * what is in flight plus a window of fingerprints, not what was ever delivered.
 */
export interface Ledger {
  /**
   * Takes those of the messages that are free (or whose claim expired) for `ttlMs`, in one step. A message at or below its
   * folder's cursor that the ledger does not hold is done.
   */
  claim(mailbox: string, messages: MessageRef[], ttlMs: number): Promise<Claim[]>;
  /** Claims of these messages that have not ended go on for `ttlMs` from now: whoever works on them is still there. */
  keep(mailbox: string, messages: MessageRef[], ttlMs: number): Promise<void>;
  /** Ties a claimed message to its content (16 bytes of hash, hex) within the window. */
  identify(mailbox: string, message: MessageRef, fingerprint: string, ttlMs: number): Promise<Identity>;
  /** Gives claimed messages back: they are free again. */
  release(mailbox: string, messages: MessageRef[]): Promise<void>;
  /** Marks claimed messages done although nothing was delivered (gone, duplicate). */
  settle(mailbox: string, messages: MessageRef[]): Promise<void>;
}

export type DeliveryQuery = { limit: number; cursor?: string; state?: DeliveryState; mailbox?: string; since?: string };

/** Deliveries worth remembering: all that retry or are parked, and the delivered ones inside the window. */
export interface Deliveries {
  /**
   * Records the delivery, its raw bytes if given, and marks the message done in the ledger, in one step. Throws `full`
   * when `raw` does not fit into the spool's bound.
   */
  save(delivery: Delivery, raw?: Uint8Array): Promise<void>;
  get(id: string): Promise<Delivery | undefined>;
  /** Newest first. */
  list(query: DeliveryQuery): Promise<Page<Delivery>>;
  /** The spooled bytes, undefined when there are none (any more). */
  raw(id: string): Promise<Uint8Array | undefined>;
  /**
   * Takes a retrying delivery whose `nextAttemptAt` has come for `ttlMs`, in one step, so that nobody else attempts it until
   * it is saved again. Undefined when it is not retrying, not due (unless `early`), or taken.
   */
  take(id: string, ttlMs: number, early?: boolean): Promise<Delivery | undefined>;
  /** A delivery that is taken stays so for `ttlMs` from now. */
  keep(id: string, ttlMs: number): Promise<void>;
  /** Retrying deliveries, oldest first: of one endpoint (for when it is back), or due before a time (for those forgotten). */
  retrying(query: { limit: number; endpoint?: string; dueBefore?: string }): Promise<Delivery[]>;
  counts(): Promise<Record<DeliveryState, number> & { spoolBytes: number }>;
}

/**
 * What became of a request to send: taken up now; `known`, the same request came before under this key; `differs`, the key was used
 * for other content; `limited`, the mailbox has sent its share, and there is room again at `until`.
 */
export type Acceptance =
  { kind: "accepted" | "known" | "differs"; sending: Sending } | { kind: "limited"; until: Date };

export type SendingQuery = { mailbox: string; limit: number; cursor?: string; state?: SendState };

/** Automatic mail between a mailbox and one address in the last hour, both ways. */
export type AutomaticTraffic = { heard: number; sent: number };

/** Outgoing messages with their bytes: each is taken by one worker at a time, and every change of one is made to its newest state. */
export interface Outbox {
  /**
   * Takes up a sending (`revision` 0) with its bytes, durably, unless its key was used before or the mailbox has taken up `perHour` of
   * them within the last hour; all in one step. Throws `full` when the bytes do not fit into the spool's bound.
   */
  accept(sending: Sending, raw: Uint8Array, perHour: number): Promise<Acceptance>;
  get(id: string): Promise<Sending | undefined>;
  /** The RFC 822 bytes, undefined once nobody needs them any more. */
  raw(id: string): Promise<Uint8Array | undefined>;
  /**
   * Takes a queued sending whose `nextAttemptAt` has come for `ttlMs`, in one step, so that nobody else works on it until it is saved.
   * Undefined when it is not queued, not due, or taken.
   */
  take(id: string, ttlMs: number): Promise<Sending | undefined>;
  /**
   * Writes a change durably and returns the sending with its new revision; it stays taken for `holdMs` more, or is free. Throws
   * `conflict` (retry never) when it was changed since it was read. The bytes go when it is sent and its copy is done.
   */
  save(sending: Sending, holdMs?: number): Promise<Sending>;
  /** The newest sending of the mailbox with this Message-ID, ours or the one its provider gave it. */
  find(mailbox: string, messageId: string): Promise<Sending | undefined>;
  /** Newest first. */
  list(query: SendingQuery): Promise<Page<Sending>>;
  /** Queued sendings due before a time that nobody has taken, those due first in front. */
  overdue(query: { limit: number; dueBefore: string }): Promise<{ id: string; mailbox: string }[]>;
  /** Counts one automatic message heard from, or sent to, an address. */
  noteAutomatic(mailbox: string, address: string, way: keyof AutomaticTraffic): Promise<void>;
  automatic(mailbox: string, address: string): Promise<AutomaticTraffic>;
}

/**
 * How many connections workers have to each mailbox, counted over all nodes. A seat lasts until it is left, or `ttlMs` after it was
 * taken or kept, so one of a process that died is free again.
 */
export interface Seats {
  /** Undefined when `limit` are taken. */
  take(mailbox: string, limit: number, ttlMs: number): Promise<string | undefined>;
  keep(seats: { mailbox: string; seat: string }[], ttlMs: number): Promise<void>;
  leave(mailbox: string, seat: string): Promise<void>;
  /** Tells all nodes that somebody waits for a seat, so that they leave those they only keep for later. May get lost. */
  wish(mailbox: string): Promise<void>;
  /** Calls `heard` for what any node wishes. Returns what ends that. */
  onWish(heard: (mailbox: string) => void): () => void;
}

/** The last facts of each mailbox, for people who ask what happened. */
export interface Facts {
  append(facts: Fact[]): Promise<void>;
  /** Newest first, at most 200 are kept per mailbox. */
  recent(mailbox: string, limit: number): Promise<Fact[]>;
}

export interface Store {
  /** One line for the start message, such as "sqlite data/email-listener.db, single node". */
  readonly description: string;
  readonly mailboxes: Mailboxes;
  readonly cursors: Cursors;
  readonly ledger: Ledger;
  readonly deliveries: Deliveries;
  readonly outbox: Outbox;
  readonly seats: Seats;
  readonly facts: Facts;
  /** Answers within a second or throws `store`. */
  ping(): Promise<void>;
  /** Drops what fell out of the windows: old fingerprints, old delivered records. */
  trim(now: Date): Promise<void>;
  close(): Promise<void>;
}

/** The state of a mailbox that nobody has listened to yet. */
export function newState({ paused }: Pick<Mailbox, "paused">): MailboxState {
  return {
    status: paused ? "paused" : "initializing",
    since: new Date().toISOString(),
    node: null,
    lastVerifiedAt: null,
    lastArrivalAt: null,
    failedLogins: 0,
    problem: null,
  };
}
