/**
 * The queue on RabbitMQ. Each task is confirmed when it is sent and acknowledged when it is done. Delays and parked
 * tasks are on the broker too.
 */
import { Problem } from "../../contract/problem.ts";
import type { BrokerLink, BrokerState } from "../broker-state.ts";
import type { Task } from "../../contract/task.ts";
import { type Backoff, clock, withTimeout } from "../../time.ts";
import { MAX_ATTEMPTS, type TryTaskDeps } from "../perform.ts";
import type { Preference } from "../preference.ts";
import type { PerformTask, TaskDepth, TaskFailure, TaskQueue } from "../queue.ts";
import { parseRabbitUrl } from "./address.ts";
import { routingKeyFor } from "./answers.ts";
import { type ConnectionHealth, rabbitHealth } from "./health.ts";
import { type RabbitConnection, rabbitConnection, type BrokerSession } from "./connection.ts";
import { type OutboundMessage, taskMessage } from "./message.ts";
import { dropParkedTasks, listParkedTasks, withChannel, replayParkedTasks } from "./parked.ts";
import type { LaneSlots } from "./concurrency.ts";
import { openPublishChannel, type PublishChannel, rabbitPublisher } from "./publisher.ts";
import { consume, type Consumer } from "./consumer.ts";
import { recentWaits } from "../recent-waits.ts";
import { parseTask } from "../stored-task.ts";
import {
  declareTopology,
  delayQueue,
  DELAYS_MS,
  type Layout,
  parkedQueue,
  LANE_WAITS_MS,
  ownQueue,
  laneWaitQueue,
} from "./topology.ts";

export type RabbitOptions = {
  /** The hosts of one cluster, tried in turn. */
  urls: readonly string[];
  /** The trusted CA in PEM for amqps, instead of the system's. */
  ca?: string | undefined;
  exchange: string;
  queue: string;
  queueType: "quorum" | "classic";
  /** The name of this node's connections in RabbitMQ's lists. */
  name?: string;
  backoff: Pick<Backoff, "task">;
  /** Which process the tasks that are sent prefer. Without it, none. */
  preference?: Preference;
  /** Called after every failed try. Must not throw. */
  onFailed: (failure: TaskFailure) => void;
  /** True for a failure that another node might not have. Must not throw. */
  isNodeFault?: TryTaskDeps["isNodeFault"];
  /**
   * Called once when the broker accepts no tasks any more. `onBack` gets the time in milliseconds until it did again.
   */
  onAway?: (why: Problem) => void;
  onBack?: (ms: number) => void;
  /** Called on each new connection that lacks something the queue can work without. Must not throw. */
  onWarning?: (about: string) => void;
  /** They are part of the queues' names and arguments. Change them together with `queue`. */
  delaysMs?: readonly number[];
  laneWaitsMs?: readonly number[];
  deliveryLimit?: number;
  /** After this many tries a task that still fails is parked. */
  maxAttempts?: number;
  /** The time for the broker's confirm. */
  confirmMs?: number;
};

/** `consumers` counts all nodes, `running` counts this process. */
type RabbitDepth = Required<TaskDepth>;

/** What the broker says about itself and the work queue. `blocked` is why it accepts no messages now, null if it does. */
export type BrokerView = { version: string; blocked: Problem | null; waiting: number; consumers: number };

export interface RabbitQueue extends TaskQueue {
  /** For the log line at the start. It has no password. */
  readonly description: string;
  /** Why the broker accepts no tasks now, as far as that is known. Null if nothing is known. */
  trouble(): Problem | null;
  /** Both connections: the one that sends, and the one that takes tasks while `run` runs. */
  state(): BrokerState;
  /** Asks the broker for the work queue, as a look at its health. Throws `queue` or `timeout` within seconds. */
  inspect(): Promise<BrokerView>;
  /** Resolves when the broker is connected and its queues are declared. Throws the reason after `ms`. */
  ready(ms: number): Promise<void>;
  /** Sends a task that another queue stored, even if this version cannot read it. `attempts` counts its tries there. */
  sendStored(json: string, options: { notBefore: Date; attempts: number }, signal?: AbortSignal): Promise<void>;
  /**
   * A `priority` below 0 is for a stand-in: it gets tasks only while no other consumer has room. `own` is the name by
   * which tasks may prefer this process.
   */
  run(
    perform: PerformTask,
    options: { concurrency: number; priority?: number; own?: string },
    signal: AbortSignal,
  ): Promise<void>;
  depth(): Promise<RabbitDepth>;
  /** Must be called after every `run` has ended. */
  close(): Promise<void>;
}

/** What is made on each connection, and how it is ended normally. */
type ConnectionSetup<T> = {
  open: (session: BrokerSession, pulse: ConnectionHealth) => Promise<T>;
  beforeClose?: (made: T) => Promise<void>;
};

/**
 * A task that was delivered this often without an answer is parked. Both a worker that dies and a connection that
 * breaks count.
 */
const DELIVERY_LIMIT = 20;
const COUNT_MS = 5_000;
/** A caller that only counts tasks does not wait long for a broker that is away. */
const READY_MS = 1_000;
const CONFIRM_MS = 10_000;

/**
 * Connects in the background until it is closed, so a node also starts without the broker. It uses up to two
 * connections: a broker with an alarm stops reading from a connection that publishes, and acknowledgements must not
 * wait for that.
 */
export function rabbitQueue(options: RabbitOptions): RabbitQueue {
  const addresses = options.urls.map(parseRabbitUrl);
  const { exchange, queue, queueType } = options;
  const { delaysMs = DELAYS_MS, laneWaitsMs = LANE_WAITS_MS, deliveryLimit = DELIVERY_LIMIT } = options;
  const layout: Layout = { exchange, queue, queueType, deliveryLimit, delaysMs, laneWaitsMs };
  const allSlots = new Set<LaneSlots>();
  const waits = recentWaits();
  const health = rabbitHealth(options);
  const connect = <T>(use: string, connectionSetup: ConnectionSetup<T>): RabbitConnection<T> => {
    const connectionHealth = health.addConnection();
    const setup = async (session: BrokerSession) => {
      await declareTopology(session.model, layout);
      return connectionSetup.open(session, connectionHealth);
    };
    const name = `${options.name ?? "email-listener"} ${use}`;
    return rabbitConnection({
      addresses,
      ca: options.ca,
      name,
      setup,
      beforeClose: connectionSetup.beforeClose,
      health: connectionHealth,
    });
  };
  const publishing = connect<PublishChannel>("sends", { open: openPublishChannel });
  let consuming: RabbitConnection<Consumer> | undefined;
  const openConsuming = (open: (session: BrokerSession) => Promise<Consumer>) =>
    (consuming = connect<Consumer>("takes", { open, beforeClose: (consumer) => consumer.close() }));
  const { confirmMs = CONFIRM_MS } = options;
  const publisher = rabbitPublisher(publishing, exchange, confirmMs);
  const session = async () => (await publishing.ready(READY_MS)).session;
  const depth = async () => {
    const onBroker = await withTimeout(COUNT_MS, "Counting tasks on RabbitMQ", countTasks(await session(), layout));
    const inProcess = countInFlight(allSlots);
    return {
      ...onBroker,
      ready: onBroker.ready + inProcess.waiting,
      running: inProcess.running,
      longestWaitSeconds: waits.longestSeconds(),
    };
  };

  return {
    description: `rabbitmq ${addresses.map(({ redactedUrl: shown }) => shown).join(", ")}, queue ${queue} (${queueType})`,
    trouble: () => troubleOf(publishing),
    state: () => ({ sending: toLink(publishing, troubleOf(publishing)), taking: consuming ? toLink(consuming) : null }),
    inspect: async () => inspect(await publishing.ready(READY_MS), queue),
    async ready(ms) {
      await publishing.ready(ms);
    },
    async send(task, { notBefore } = {}, signal) {
      signal?.throwIfAborted();
      const preferred = options.preference?.preferredFor(task.mailbox);
      const message = preferring(layout, preferred, delayedMessage(layout, task, { notBefore }));
      const published = publisher.publish(message, signal);
      await withTimeout(2 * confirmMs, "Sending a task to RabbitMQ", published, signal);
    },
    sendStored: (json, { notBefore, attempts }, signal) => {
      const task = parseTask(json);
      const content = task instanceof Problem ? json : task;
      return publisher.publish(delayedMessage(layout, content, { notBefore, attempts }), signal);
    },
    run(perform, { concurrency, priority = 0, own }, signal) {
      const { backoff, onFailed, isNodeFault, maxAttempts = MAX_ATTEMPTS } = options;
      const tries = { backoff, onFailed, isNodeFault, maxAttempts };
      const deps = { ...tries, layout, publisher, open: openConsuming, allSlots, waits, onWarning: options.onWarning };
      return consume(deps, { perform, concurrency, priority, own }, signal);
    },
    depth,
    parked: async (limit, mailboxPrefix) => listParkedTasks(await session(), layout, { limit, mailboxPrefix }),
    replayParked: async (ids) => replayParkedTasks({ session: await session(), layout, publisher }, ids),
    dropParked: async (ids) => dropParkedTasks(await session(), layout, ids),
    close: () => publishing.close(),
  };
}

async function inspect({ session, blocked }: PublishChannel, queue: string): Promise<BrokerView> {
  const asking = withChannel(session, (channel) => channel.checkQueue(queue));
  const { messageCount, consumerCount } = await withTimeout(COUNT_MS, "Asking RabbitMQ for its queue", asking);
  const { version } = session.model.connection.serverProperties;
  return { version, blocked, waiting: messageCount, consumers: consumerCount };
}

function toLink(connection: RabbitConnection<unknown>, problem = connection.trouble()): BrokerLink {
  return { problem, wasUp: connection.wasUp() };
}

/** A broker with an alarm is connected, and accepts nothing. */
function troubleOf(publishing: RabbitConnection<PublishChannel>): Problem | null {
  return publishing.trouble() ?? publishing.current()?.blocked ?? null;
}

/** A new message for a task, or for JSON that this version cannot read. */
function delayedMessage(
  layout: Layout,
  task: Task | string,
  { notBefore, attempts = 0 }: { notBefore: Date | undefined; attempts?: number },
) {
  const wait = notBefore ? notBefore.getTime() - clock.now() : 0;
  const headers = { tries: attempts, ...(wait > 0 && notBefore && { notBefore: notBefore.toISOString() }) };
  return taskMessage(routingKeyFor(layout, wait), task, headers);
}

/** A task that is due goes to the process that it prefers, or to any if that process has no queue. */
function preferring(layout: Layout, process: string | undefined, message: OutboundMessage): OutboundMessage {
  if (process === undefined || message.to !== layout.queue) return message;
  return { ...message, to: ownQueue(layout, process), otherwise: layout.queue };
}

/** Tasks that wait for their lane's turn count as ready. Only tasks with a time of their own count as delayed. */
async function countTasks(
  session: BrokerSession,
  layout: Layout,
): Promise<Omit<RabbitDepth, "running" | "longestWaitSeconds">> {
  return withChannel(session, async (channel) => {
    const sum = async (names: string[]) => {
      let all = 0;
      for (const name of names) all += (await channel.checkQueue(name)).messageCount;
      return all;
    };
    const { messageCount, consumerCount } = await channel.checkQueue(layout.queue);
    const laneWaits = await sum(layout.laneWaitsMs.map((ms) => laneWaitQueue(layout, ms)));
    const delayed = await sum(layout.delaysMs.map((ms) => delayQueue(layout, ms)));
    const parked = await sum([parkedQueue(layout)]);
    return { ready: messageCount + laneWaits, delayed, parked, consumers: consumerCount };
  });
}

function countInFlight(allSlots: Set<LaneSlots>): { waiting: number; running: number } {
  const all = { waiting: 0, running: 0 };
  for (const { waiting, running } of allSlots) {
    all.waiting += waiting;
    all.running += running;
  }
  return all;
}
