/** What all nodes must agree on and what must survive a restart: one small interface for each concern, behind one Store. */
import type { Delivery, DeliveryState } from "../contract/delivery.ts";
import type { DeliveryQuery } from "./delivery-search.ts";
import type { Locks } from "../concurrency/locks.ts";
import type { RefusedLogins } from "../contract/login.ts";
import type { Mailbox, MailboxState, MailboxStatus } from "../contract/mailbox.ts";
import type { Cursor, MessageRef } from "../contract/message.ts";
import type { SendState, Sending } from "../contract/sending.ts";
import type { AuditEntry } from "../contract/token.ts";
import type { Applications } from "./sealed-applications.ts";
import type { WrongCredentials } from "./access-rules.ts";
import type { Documents } from "./documents.ts";
import type { EnabledFollower, EnabledMailbox } from "./enabled.ts";
import type { Consents } from "./sealed-consents.ts";
import type { Tokens } from "./sealed-tokens.ts";
import type { Connections } from "./measured/connections.ts";
import type { OrderedMailboxes } from "./measured/mailbox-order.ts";
import type { Measures } from "./measured/measures.ts";
import type { Fact } from "../telemetry/events.ts";

export type Page<T> = { items: T[]; next: string | null; total: number };

/** `cursor` is the opaque `next` of an earlier page; `limit` is 1 to 1,000. `prefix`: only ids that begin so. */
export type MailboxQuery = {
  limit: number;
  cursor?: string;
  status?: MailboxStatus;
  address?: string;
  prefix?: string;
};
export type MailboxWithState = { mailbox: Mailbox; state: MailboxState };
export type StateOfMailbox = { id: string; state: MailboxState };
/** The state that a subscription observed while the mailbox had this revision. */
export type ObservedState = StateOfMailbox & { revision: number };

/** The registered mailboxes. Their secrets are encrypted before anything is written. */
export interface Mailboxes {
  /**
   * Creates (`revision` 0) or replaces a mailbox, durably, and returns it with its new revision. Throws `conflict` when
   * the stored revision is not the given one, because somebody changed the mailbox since it was read. With `state` the
   * mailbox gets this state in the same step, so nobody sees the new revision with the old state.
   */
  put(mailbox: Mailbox, state?: MailboxState): Promise<Mailbox>;
  /**
   * Writes what the service itself learned about a mailbox (a rotated token, an endpoint that is gone). The revision
   * stays the same, so nothing restarts. `change` gets the stored mailbox and must not modify it. It may run more than
   * once. Resolves false without a change if there is no such mailbox, or if it no longer has the given revision.
   */
  amend(which: { id: string; revision?: number }, change: (stored: Mailbox) => Mailbox): Promise<boolean>;
  get(id: string): Promise<MailboxWithState | undefined>;
  /** Lists mailboxes in the order of their ids. */
  list(query: MailboxQuery): Promise<Page<MailboxWithState>>;
  /** Lists the states alone, in the order of ids. That costs little, because no secret is decrypted. */
  listStates(query: Pick<MailboxQuery, "limit" | "cursor" | "prefix">): Promise<Omit<Page<StateOfMailbox>, "total">>;
  /** Removes a mailbox with all that belongs to it: state, cursors, ledger, deliveries, facts. False if there was none. */
  remove(id: string): Promise<boolean>;
  /**
   * Writes the states that subscriptions report. Ignores a state when the mailbox is gone or has another revision by
   * now: a subscription that is about to stop must not overwrite the state that a pause or new credentials set.
   */
  saveStates(states: ObservedState[]): Promise<void>;
  /** The id and revision of every mailbox that is not paused. */
  listEnabled(): Promise<EnabledMailbox[]>;
  /** Follows which mailboxes are enabled. The subscriptions reconcile with it. */
  followEnabled(): EnabledFollower;
}

/** How far each folder was handed over, guarded by fences. */
export interface Cursors {
  /** Returns a new fence. Each new owner of the mailbox gets a higher number. */
  issueFence(mailbox: string): Promise<number>;
  read(mailbox: string): Promise<Cursor[]>;
  /**
   * Moves the cursor of one folder and adds the messages to the ledger as free, unless the ledger knows them. Throws
   * `conflict` when a newer fence exists, because then another node owns the mailbox.
   */
  advance(mailbox: string, cursor: Cursor, messages: MessageRef[], fence: number): Promise<void>;
  /** Adds messages to the ledger as free, whatever became of them before (resync). */
  reopen(mailbox: string, messages: MessageRef[]): Promise<void>;
}

/**
 * yours: the caller has claimed it now; busy: another worker has claimed it; done: it was delivered, or a delivery
 * record holds it.
 */
export type Claim = "yours" | "busy" | "done";

/**
 * What the ledger knows about a message's content. `new`: nobody else has it, so deliver it. `duplicate`: it was
 * delivered, from this or another place (the message was moved or renumbered). `busy`: it is being delivered from
 * another place now, so ask again later. `sharesContent`: another message of the same folder and epoch has the same
 * content, so this one needs its own delivery id.
 */
export type Identity = { kind: "new" | "duplicate" | "busy"; sharesContent: boolean };

/**
 * Makes sure that each message is claimed by one worker at a time and is done once. Its size depends on what is in
 * flight plus a window of fingerprints, not on what was ever delivered.
 */
export interface Ledger {
  /**
   * Claims those messages that are free (or whose claim expired) for `ttlMs`, in one step. A message at or below its
   * folder's cursor that the ledger does not hold is done.
   */
  claim(mailbox: string, messages: MessageRef[], ttlMs: number): Promise<Claim[]>;
  /** Extends unexpired claims of these messages to `ttlMs` from now, because the worker is still working on them. */
  renew(mailbox: string, messages: MessageRef[], ttlMs: number): Promise<void>;
  /** Records the content of a claimed message (16 bytes of hash, in hex) in the window of fingerprints. */
  identify(mailbox: string, message: MessageRef, fingerprint: string, ttlMs: number): Promise<Identity>;
  /** Makes claimed messages free again. */
  release(mailbox: string, messages: MessageRef[]): Promise<void>;
  /** Marks claimed messages as done although nothing was delivered (gone, duplicate). */
  markDone(mailbox: string, messages: MessageRef[]): Promise<void>;
}

/**
 * The deliveries that the store remembers: all that are retrying or parked, and the delivered ones inside the window.
 */
export interface Deliveries {
  /**
   * Writes the delivery and its raw bytes if given, and marks the message as done in the ledger, in one step. Throws
   * `full` when the spool has no room for `raw`.
   */
  save(delivery: Delivery, raw?: Uint8Array): Promise<void>;
  get(id: string): Promise<Delivery | undefined>;
  /**
   * Lists deliveries, newest first. With `text` it looks at 5,000 to 10,000 deliveries for a page. So a page may have
   * few items or none although `next` is set, and `total` counts what matches the rest of the query.
   */
  list(query: DeliveryQuery): Promise<Page<Delivery>>;
  /** The spooled bytes; undefined when there are none (any more). */
  getRaw(id: string): Promise<Uint8Array | undefined>;
  /**
   * Claims a retrying delivery whose `nextAttemptAt` has come, in one step. For `ttlMs`, or until it is saved, nobody
   * else attempts it. Undefined when it is not retrying, not due (unless `early`), or claimed.
   */
  claim(id: string, ttlMs: number, early?: boolean): Promise<Delivery | undefined>;
  /** Extends the claim of a delivery to `ttlMs` from now. */
  renew(id: string, ttlMs: number): Promise<void>;
  /**
   * Retrying deliveries, oldest first: those of one endpoint (when it has recovered), or those due before a time (when
   * their task was lost).
   */
  listRetrying(query: { limit: number; endpoint?: string; dueBefore?: string }): Promise<Delivery[]>;
  getCounts(): Promise<Record<DeliveryState, number> & { spoolBytes: number }>;
}

/**
 * The result of a request to send. `accepted`: it is in the outbox now. `known`: the same request came before under
 * this key. `differs`: the key was used for other content. `limited`: the mailbox has used its hourly limit, and there
 * is room again at `until`.
 */
export type Acceptance =
  | { kind: "accepted" | "known" | "differs"; sending: Sending }
  | { kind: "limited"; until: Date };

export type SendingQuery = { mailbox: string; limit: number; cursor?: string; state?: SendState };

/** Counts of automatic mail between a mailbox and one address in the last hour: received (`heard`) and sent. */
export type AutomaticTraffic = { heard: number; sent: number };

/**
 * Outgoing messages with their bytes. One worker at a time claims each of them, and every change is made to its newest
 * revision.
 */
export interface Outbox {
  /**
   * Adds a sending (`revision` 0) with its bytes, durably and in one step, unless its key was used before or the
   * mailbox has added `perHour` sendings within the last hour. Throws `full` when there is no room for the bytes.
   */
  accept(sending: Sending, raw: Uint8Array, perHour: number): Promise<Acceptance>;
  get(id: string): Promise<Sending | undefined>;
  /** The RFC 822 bytes; undefined when nobody needs them any more. */
  getRaw(id: string): Promise<Uint8Array | undefined>;
  /**
   * Claims a queued sending whose `nextAttemptAt` has come, in one step. For `ttlMs`, or until it is saved, nobody else
   * works on it. Undefined when it is not queued, not due, or claimed.
   */
  claim(id: string, ttlMs: number): Promise<Sending | undefined>;
  /**
   * Writes a change durably and returns the sending with its new revision. It stays claimed for `holdMs` more; without
   * `holdMs` it is free. Throws `conflict` (retry never) when it was changed since it was read. The bytes are deleted
   * when the message is sent and its copy is done.
   */
  save(sending: Sending, holdMs?: number): Promise<Sending>;
  /** The mailbox's newest sending with this Message-ID. It may be our own or the one that the provider assigned. */
  findByMessageId(mailbox: string, messageId: string): Promise<Sending | undefined>;
  /** Lists sendings, newest first. */
  list(query: SendingQuery): Promise<Page<Sending>>;
  /** Queued sendings that were due before a time and that nobody has claimed, in the order of their due times. */
  listOverdue(query: { limit: number; dueBefore: string }): Promise<{ id: string; mailbox: string }[]>;
  /** Counts one automatic message from (`heard`) or to (`sent`) an address. */
  recordAutomatic(mailbox: string, address: string, way: keyof AutomaticTraffic): Promise<void>;
  getAutomaticTraffic(mailbox: string, address: string): Promise<AutomaticTraffic>;
}

/**
 * How many connections workers have to each mailbox, counted over all nodes. A slot lasts until it is released, or
 * until `ttlMs` after it was acquired or renewed. So the slot of a process that died becomes free.
 */
export interface ConnectionSlots {
  /** Undefined when `limit` slots are in use. */
  acquire(mailbox: string, limit: number, ttlMs: number): Promise<string | undefined>;
  renew(slots: { mailbox: string; slot: string }[], ttlMs: number): Promise<void>;
  release(mailbox: string, slot: string): Promise<void>;
  /**
   * Tells all nodes that somebody waits for a slot, so that they release slots of idle connections. The message may get
   * lost.
   */
  requestSlot(mailbox: string): Promise<void>;
  /** Calls `heard` for each slot request of any node. Returns a function that ends this. */
  onSlotRequest(heard: (mailbox: string) => void): () => void;
  /** How many slots of the mailbox are in use. */
  count(mailbox: string): Promise<number>;
}

/** The last facts of each mailbox, for people who ask what happened. */
export interface Facts {
  append(facts: Fact[]): Promise<void>;
  /** Newest first. At most 200 are kept for each mailbox. */
  recent(mailbox: string, limit: number): Promise<Fact[]>;
}

/** `mailbox` or `actor`, not both. */
export type AuditQuery = { limit: number; cursor?: string; mailbox?: string; actor?: string };

/**
 * Who changed what by the API. The entries of a removed mailbox stay. Of each actor the newest 2,000 are kept, so that
 * nobody can push out the entries of others, and all for at most 90 days.
 */
export interface Audit {
  /** An id for a new entry. It sorts after those that this process got before, so entries of one millisecond have an order. */
  nextId(): string;
  /** Writes an entry, or replaces the one with the same id and time. */
  put(entry: AuditEntry): Promise<void>;
  remove(entry: Pick<AuditEntry, "id" | "at">): Promise<void>;
  /** Newest first; of one millisecond the greatest id first. */
  list(query: AuditQuery): Promise<Page<AuditEntry>>;
}

/** `limitBytes` is null if nobody knows a limit. */
export type StoreSize = { usedBytes: number; limitBytes: number | null };

export interface Store {
  /** One line for the start message, such as "sqlite data/email-listener.db, single node". */
  readonly description: string;
  readonly mailboxes: Mailboxes;
  readonly applications: Applications;
  readonly consents: Consents;
  readonly documents: Documents;
  readonly cursors: Cursors;
  readonly ledger: Ledger;
  readonly deliveries: Deliveries;
  readonly outbox: Outbox;
  readonly connectionSlots: ConnectionSlots;
  readonly facts: Facts;
  readonly measures: Measures;
  readonly orderedMailboxes: OrderedMailboxes;
  readonly connections: Connections;
  readonly tokens: Tokens;
  readonly audit: Audit;
  readonly locks: Locks;
  readonly refusedLogins: RefusedLogins;
  /** Where several nodes share the store. */
  readonly wrongCredentials?: WrongCredentials;
  /** Resolves within a second or throws `store`. */
  ping(): Promise<void>;
  /** How large the store is, and how large it may become. */
  measure(): Promise<StoreSize>;
  /** Throws `config`, naming the key, when another node encrypts with a key that this node does not have. */
  checkKeys(): Promise<void>;
  /** Deletes what is older than the windows: old fingerprints and old delivered records. */
  trim(now: Date): Promise<void>;
  close(): Promise<void>;
}

/** The state of a mailbox that no subscription has reported yet. */
export function initialState({ paused }: Pick<Mailbox, "paused">): MailboxState {
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

/** The state of a mailbox from its pause on. What is known of its mail stays. */
export function pausedState(state: MailboxState, since: string): MailboxState {
  return { ...state, status: "paused", since, failedLogins: 0, problem: null };
}
