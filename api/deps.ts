/** What the HTTP face needs from the rest of the node; the composition root supplies it. */
import type { Config } from "../shared/config.ts";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import type { Cursor, Folder, MessageRef } from "../shared/contract/message.ts";
import type { About } from "../shared/nodes/heartbeats.ts";
import type { PreflightReport } from "../shared/mail/mail.ts";
import type { ParkedTasks, TaskSender, TaskSource } from "../shared/queue/queue.ts";
import type { Store } from "../shared/store/store.ts";
import type { Facts } from "../shared/telemetry/events.ts";

/** Short visits to a mail server on behalf of a request. Each opens and closes (or borrows) a connection of its own. */
export type MailVisits = {
  folders(mailbox: Mailbox, signal: AbortSignal): Promise<Folder[]>;
  /** Never rejects because a step failed: that is what the report says. */
  preflight(mailbox: Mailbox, signal: AbortSignal): Promise<PreflightReport>;
  /** The RFC 822 bytes of one message; throws `gone` when the server no longer has it. */
  raw(ref: MessageRef, mailbox: Mailbox, signal: AbortSignal): Promise<Uint8Array>;
  /** All messages received at or after `date`, folder by folder, in batches that never mix folders. */
  since(mailbox: Mailbox, from: { date: Date; cursors: Cursor[] }, signal: AbortSignal): AsyncIterable<MessageRef[]>;
};

/**
 * The open subscriptions of this node. `wake` makes them look at the store again now, at one mailbox or at all; `unserved` counts the
 * mailboxes that no node has room for.
 */
export type Subscriptions = { wake(id?: string): void; connections(): { open: number }; unserved(): number };

/** Calls to CRMs on behalf of a request, through the same guard and deadlines as deliveries. It rejects only by the signal. */
export type CrmCalls = {
  /** Whether the CRM takes a call without content at this callback URL, and why not. */
  probe(endpoint: string, signal: AbortSignal): Promise<{ ok: boolean; reason: string }>;
};

/** All live nodes, this one among them: asked now, or as this node last heard, without asking. */
export type LiveNodes = { now(): Promise<About[]>; known(): readonly About[] };

/** `ok` is whether the node can do its work; each check that is not ok says why. */
export type Readiness = { ok: boolean; checks: { name: string; ok: boolean; cause?: string }[] };

export type ApiDeps = {
  config: Config;
  version: string;
  store: Store;
  tasks: TaskSender & Pick<TaskSource, "depth">;
  parked: ParkedTasks;
  facts: Facts;
  metrics: { render(): Promise<string>; contentType: string };
  subscriptions: Subscriptions;
  nodes: LiveNodes;
  mail: MailVisits;
  crm: CrmCalls;
  ready(): Promise<Readiness>;
};
