/** What the HTTP side needs from the rest of the node. The composition root supplies it. */
import type { Config } from "../shared/config.ts";
import type { Discovered, Proposal } from "../shared/mail/discovery/proposal.ts";
import type { TestPostReport } from "../shared/contract/endpoint.ts";
import type { Mailbox } from "../shared/contract/mailbox.ts";
import type { Cursor, Folder, MessageRef } from "../shared/contract/message.ts";
import type { Egress } from "../shared/egress.ts";
import type { NodeDescription } from "../shared/nodes/heartbeats.ts";
import type { GraphDeps } from "../shared/mail/graph/client/session.ts";
import type { PreflightReport } from "../shared/mail/mail.ts";
import type { LoginGate } from "../shared/mail/net/login-gate.ts";
import type { BrokerView } from "../shared/queue/rabbitmq/queue.ts";
import type { ParkedTasks, TaskSender, TaskSource } from "../shared/queue/queue.ts";
import type { RedisConnection } from "../shared/store/redis/connection/client.ts";
import type { Store } from "../shared/store/store.ts";
import type { KeyName, Vault } from "../shared/store/vault.ts";
import type { Facts } from "../shared/telemetry/events.ts";
import type { HintRelay } from "./hint-relay.ts";

/**
 * Short connections to a mail server for an HTTP request. Each one is opened and closed (or borrowed) for that request.
 */
export type MailVisits = {
  listFolders(mailbox: Mailbox, signal: AbortSignal): Promise<Folder[]>;
  /** A failed step does not reject: the report says it. */
  preflight(mailbox: Mailbox, signal: AbortSignal): Promise<PreflightReport>;
  /** The same for a registered mailbox. It uses its stored tokens, and stores a new one if the server gives one. */
  preflightStored(mailbox: Mailbox, signal: AbortSignal): Promise<PreflightReport>;
  /** The messages of the watched folders with this Message-ID. Undefined if the protocol cannot search. */
  findMessage(mailbox: Mailbox, messageId: string, signal: AbortSignal): Promise<MessageRef[] | undefined>;
  /** The RFC 822 bytes of one message. Throws `gone` when the server no longer has it. */
  fetchRaw(ref: MessageRef, mailbox: Mailbox, signal: AbortSignal): Promise<Uint8Array>;
  /** All messages received at or after `date`, in batches of one folder each. */
  listSince(
    mailbox: Mailbox,
    from: { date: Date; cursors: Cursor[] },
    signal: AbortSignal,
  ): AsyncIterable<MessageRef[]>;
};

/**
 * The subscriptions of this node. `wake` makes them read the store again now, for one mailbox or for all. `unserved`
 * counts the mailboxes without a node, because all nodes are full.
 */
export type Subscriptions = { wake(id?: string): void; connections(): { open: number }; unserved(): number };

/**
 * Calls to CRMs for an HTTP request, with the same egress guard and deadlines as deliveries. They reject only when the
 * signal aborts.
 */
export type CrmCalls = {
  /** Whether the CRM accepts a call without content at this callback URL, and if not, why. */
  probe(endpoint: string, signal: AbortSignal): Promise<{ ok: boolean; reason: string }>;
};

/** Finds the mail servers of an address without a login. Rejects only when the signal aborts. */
export type Discover = (
  address: string,
  signal: AbortSignal,
) => Promise<Pick<Discovered, "steps"> & { proposals: Proposal[] }>;

/** Posts a signed test message to the endpoint of a mailbox, and reports the answer. */
export type PostTest = (mailbox: Mailbox, signal: AbortSignal) => Promise<TestPostReport>;

/** Posts a body to the receiver of alarms. Rejects only with the signal's reason. */
export type PostAlarm = (
  request: { url: string; secret: Config["ALARM_SECRET"]; id: string; body: string },
  signal: AbortSignal,
) => Promise<{ ok: boolean; reason: string }>;

/** All live nodes, this one among them: read from Redis now, or as this node last knew them. */
export type LiveNodes = { now(): Promise<NodeDescription[]>; known(): readonly NodeDescription[] };

/** `ok` says whether the node can do its work. Each check that is not ok has a cause. */
export type Readiness = { ok: boolean; checks: { name: string; ok: boolean; cause?: string }[] };

/** What the checks of the diagnostics ask, besides what every route has. */
export type Probes = {
  /** The name of this node. */
  name: string;
  settingWarnings: readonly string[];
  /** The guard of connections to endpoints. */
  egress: Egress;
  /** The guard of connections to this service by its own address, which no client may reach. */
  ownEgress: Egress;
  /** Undefined with the embedded store. */
  redis: RedisConnection | undefined;
  /** Undefined without RabbitMQ. */
  inspectBroker: (() => Promise<BrokerView>) | undefined;
  keyring: readonly KeyName[];
  /** Names for a text that only the nodes of this installation can compute. */
  marks(text: string): string[];
};

export type ApiDeps = {
  config: Config;
  /** The endpoint of the demo, while the service runs in it. */
  demoEndpoint: string | undefined;
  version: string;
  store: Store;
  tasks: TaskSender & Pick<TaskSource, "depth">;
  parked: ParkedTasks;
  facts: Facts;
  metrics: { render(): Promise<string>; contentType: string };
  subscriptions: Subscriptions;
  nodes: LiveNodes;
  mail: MailVisits;
  discover: Discover;
  crm: CrmCalls;
  postAlarm: PostAlarm;
  postTest: PostTest;
  logins: Pick<LoginGate, "allowRetry">;
  /** Requests to providers, while a person connects a mailbox. */
  outbound: GraphDeps;
  ready(): Promise<Readiness>;
  probes: Probes;
  /** Encrypts what browsers keep for the node, and decrypts it on every node. */
  sealing: Pick<Vault, "seal" | "open">;
  graphHints: HintRelay;
  /** Called when a bulk action begins. */
  wakeBulk(): void;
};
