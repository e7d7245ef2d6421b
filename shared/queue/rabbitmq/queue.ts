/** The queue on RabbitMQ: every task confirmed when sent, acknowledged when done, delayed and parked on the broker itself. */
import type { Problem } from "../../contract/problem.ts";
import { type Backoff, within } from "../../time.ts";
import type { ParkedTasks, Perform, TaskDepth, TaskFailure, TaskSender, TaskSource } from "../queue.ts";
import { rabbitAddress } from "./address.ts";
import { routeFor } from "./handler.ts";
import { type Pulse, rabbitHealth } from "./health.ts";
import { type Link, rabbitLink, type Session } from "./connection.ts";
import { outgoing } from "./message.ts";
import { drop, listParked, onChannel, replay } from "./parked.ts";
import type { Places } from "./concurrency.ts";
import { openOutlet, type Outlet, rabbitPublisher } from "./publisher.ts";
import { consume, type Consumer } from "./consumer.ts";
import { recentWaits } from "../waits.ts";
import { declare, delayQueue, DELAYS_MS, type Layout, parkedQueue, TURNS_MS, turnQueue } from "./topology.ts";

export type RabbitOptions = {
  /** Hosts of one cluster, tried in turn. */
  urls: readonly string[];
  /** PEM of the CA to trust for amqps, instead of the system's. */
  ca?: string | undefined;
  exchange: string;
  queue: string;
  queueType: "quorum" | "classic";
  /** What the broker's lists call the connections of this node. */
  name?: string;
  backoff: Pick<Backoff, "task">;
  /** Told of every failed try. Must not throw. */
  onFailed: (failure: TaskFailure) => void;
  /** The broker cannot take tasks, said once; and can again, after so many milliseconds. */
  onAway?: (why: Problem) => void;
  onBack?: (ms: number) => void;
  /** Part of the queues' names and arguments: change them together with `queue`. */
  delaysMs?: readonly number[];
  turnsMs?: readonly number[];
  deliveryLimit?: number;
  /** Tries after which a task that still fails is parked. */
  triesMax?: number;
  /** How long a task may take to be safe on the broker. */
  confirmMs?: number;
};

/** `consumers` are those of all nodes, `running` is of this process. */
type RabbitCounts = Required<TaskDepth>;

export interface RabbitQueue extends TaskSender, TaskSource, ParkedTasks {
  /** For the start message, without the password. */
  readonly description: string;
  /** Why the broker takes no tasks at the moment, as far as it is known; null when nothing speaks against it. */
  trouble(): Problem | null;
  /** Resolves when the broker is reached and its queues stand; past `ms` it throws why not. */
  ready(ms: number): Promise<void>;
  /** `priority` below 0 for one who stands in: it gets tasks only while no other consumer has room. */
  run(perform: Perform, options: { concurrency: number; priority?: number }, signal: AbortSignal): Promise<void>;
  counts(): Promise<RabbitCounts>;
  /** After every `run` has ended. */
  close(): Promise<void>;
}

/** What is made on each connection, and how it ends in good order. */
type Making<T> = { open: (session: Session, pulse: Pulse) => Promise<T>; quit?: (made: T) => Promise<void> };

/** Handed out this often without an answer, a task is parked. Deaths of its workers count here, and broken connections. */
const DELIVERY_LIMIT = 20;
/** More than three days of the task schedule, which ends in steps of five minutes. */
const TRIES_MAX = 1_000;
const ASK_MS = 5_000;
/** Whoever only wants to look does not wait long for a broker that is away. */
const LOOK_MS = 1_000;
const CONFIRM_MS = 10_000;

/**
 * Connects in the background and for as long as it is not closed, so that a node starts without the broker too. Two connections
 * at most: a broker in need stops reading from those that publish, and acknowledgements must not wait for that.
 */
export function rabbitQueue(options: RabbitOptions): RabbitQueue {
  const addresses = options.urls.map(rabbitAddress);
  const { exchange, queue, queueType } = options;
  const { delaysMs = DELAYS_MS, turnsMs = TURNS_MS, deliveryLimit = DELIVERY_LIMIT } = options;
  const layout: Layout = { exchange, queue, queueType, deliveryLimit, delaysMs, turnsMs };
  const rooms = new Set<Places>();
  const waits = recentWaits();
  const health = rabbitHealth(options);
  const link = <T>(use: string, making: Making<T>): Link<T> => {
    const pulse = health.pulse();
    const setup = async (session: Session) => {
      await declare(session.model, layout);
      return making.open(session, pulse);
    };
    const name = `${options.name ?? "email-listener"} ${use}`;
    return rabbitLink({ addresses, ca: options.ca, name, setup, quit: making.quit, pulse });
  };
  const outlets = link<Outlet>("sends", { open: openOutlet });
  const takes = (open: (session: Session) => Promise<Consumer>) =>
    link<Consumer>("takes", { open, quit: (consumer) => consumer.close() });
  const publisher = rabbitPublisher(outlets, exchange, options.confirmMs ?? CONFIRM_MS);
  const session = async () => (await outlets.ready(LOOK_MS)).session;
  const counts = async () => {
    const there = await within(ASK_MS, "Counting tasks on RabbitMQ", countOn(await session(), layout));
    const here = inHand(rooms);
    return { ...there, ready: there.ready + here.waiting, running: here.running, waitedSeconds: waits.longest() };
  };

  return {
    description: `rabbitmq ${addresses.map(({ shown }) => shown).join(", ")}, queue ${queue} (${queueType})`,
    trouble: () => outlets.trouble() ?? outlets.current()?.blocked ?? null,
    async ready(ms) {
      await outlets.ready(ms);
    },
    send: (task, { notBefore } = {}) => {
      const wait = notBefore ? notBefore.getTime() - Date.now() : 0;
      const travel = wait > 0 && notBefore ? { notBefore: notBefore.toISOString() } : {};
      return publisher.publish(outgoing(routeFor(layout, wait), task, travel));
    },
    run(perform, { concurrency, priority = 0 }, signal) {
      const { backoff, onFailed, triesMax = TRIES_MAX } = options;
      const deps = { layout, publisher, backoff, onFailed, triesMax, open: takes, rooms, waits };
      return consume(deps, { perform, concurrency, priority }, signal);
    },
    async depth() {
      const { ready, delayed, running } = await counts();
      return { ready, delayed, running };
    },
    counts,
    parked: async (limit) => listParked(await session(), layout, limit),
    replayParked: async (ids) => replay({ session: await session(), layout, publisher }, ids),
    dropParked: async (ids) => drop(await session(), layout, ids),
    close: () => outlets.close(),
  };
}

/** Tasks that wait for their lane's turn are ready: only what has a time of its own is delayed. */
async function countOn(session: Session, layout: Layout): Promise<Omit<RabbitCounts, "running" | "waitedSeconds">> {
  return onChannel(session, async (channel) => {
    const sum = async (names: string[]) => {
      let all = 0;
      for (const name of names) all += (await channel.checkQueue(name)).messageCount;
      return all;
    };
    const { messageCount, consumerCount } = await channel.checkQueue(layout.queue);
    const turns = await sum(layout.turnsMs.map((ms) => turnQueue(layout, ms)));
    const delayed = await sum(layout.delaysMs.map((ms) => delayQueue(layout, ms)));
    const parked = await sum([parkedQueue(layout)]);
    return { ready: messageCount + turns, delayed, parked, consumers: consumerCount };
  });
}

function inHand(rooms: Set<Places>): { waiting: number; running: number } {
  const all = { waiting: 0, running: 0 };
  for (const { waiting, running } of rooms) {
    all.waiting += waiting;
    all.running += running;
  }
  return all;
}
