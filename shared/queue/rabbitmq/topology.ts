/**
 * Declares what the service needs on the broker: an exchange, the work queue, one queue for each delay, one for each
 * process that tasks may prefer, and the parked queue. The arguments work on RabbitMQ 3.10 and all of 4.x.
 */
import type { Channel, ChannelModel } from "amqplib";
import { Problem } from "../../contract/problem.ts";
import { quoteWords } from "../../evidence/evidence.ts";
import { OWN_WAIT_MS } from "../preference.ts";

export type Layout = {
  exchange: string;
  queue: string;
  queueType: "quorum" | "classic";
  /** How often a task may be delivered without an answer, because its worker died. */
  deliveryLimit: number;
  /** The delays in milliseconds, ascending. */
  delaysMs: readonly number[];
  /** How long a task waits after its lane was full: the first time, the second time, and from then on. */
  laneWaitsMs: readonly number[];
};

/**
 * Each delay has a queue of its own. A queue checks only its first message for expiry, so messages with different
 * delays in one queue would hold each other up. A longer wait, or one between two delays, uses several of these in
 * turn.
 */
export const DELAYS_MS: readonly number[] = [1, 5, 15, 60, 300, 900, 3600, 14_400].map((seconds) => seconds * 1000);

/**
 * These tasks are due and wait only for their turn, so they have queues of their own. The waits grow, else a lane with
 * ten thousand tasks would keep the broker busy.
 */
export const LANE_WAITS_MS: readonly number[] = [1_000, 5_000, 15_000];

/** Parked tasks are listed by getting and returning them, which the broker counts. RabbitMQ 4.x always has a limit. */
const PARKED_DELIVERY_LIMIT = 1_000_000;

/** How long the broker keeps the queue of a process that is gone. Its tasks have left it long before. */
const OWN_QUEUE_EXPIRES_MS = 3_600_000;
const MAX_PROCESS_NAME_LENGTH = 40;

export const delayQueue = ({ queue }: Pick<Layout, "queue">, ms: number): string => `${queue}.delay.${ms}`;
export const laneWaitQueue = ({ queue }: Pick<Layout, "queue">, ms: number): string => `${queue}.turn.${ms}`;
/** A long name is cut. Two processes that share a queue for this reason are no fault. */
export const ownQueue = ({ queue }: Pick<Layout, "queue">, process: string): string =>
  `${queue}.for.${process.slice(0, MAX_PROCESS_NAME_LENGTH)}`;
export const parkedQueue = ({ queue }: Pick<Layout, "queue">): string => `${queue}.parked`;

/**
 * The next delay for a wait of `ms`: the longest that is not too long, or one that is too long by so little that
 * another round is not worth it.
 */
export function nextDelay(delaysMs: readonly number[], ms: number): number {
  const enough = delaysMs.find((delay) => delay >= ms);
  if (enough !== undefined && enough - ms <= Math.min(ms / 5, 30_000)) return enough;
  return delaysMs.findLast((delay) => delay <= ms) ?? delaysMs[0] ?? 1000;
}

/** Declares everything. What exists with the same arguments stays as it is. Throws `config` if something differs. */
export async function declareTopology(model: ChannelModel, layout: Layout): Promise<void> {
  const { exchange, queue, delaysMs, laneWaitsMs } = layout;
  const channel = await model.createChannel();
  // The call whose failure closed the channel rejects with the same error.
  channel.on("error", () => undefined);
  await explainConflict(exchange, channel.assertExchange(exchange, "direct", { durable: true }));
  await declareQueue(channel, layout, parkedQueue(layout), { "x-delivery-limit": PARKED_DELIVERY_LIMIT });
  await declareQueue(channel, layout, queue, {
    "x-delivery-limit": layout.deliveryLimit,
    ...deadLetterTo(layout, parkedQueue(layout)),
  });
  const waits = [
    ...delaysMs.map((ms) => ({ name: delayQueue(layout, ms), ms })),
    ...laneWaitsMs.map((ms) => ({ name: laneWaitQueue(layout, ms), ms })),
  ];
  for (const { name, ms } of waits)
    await declareQueue(channel, layout, name, { "x-message-ttl": ms, ...deadLetterTo(layout, queue) });
  await channel.close();
}

/**
 * Declares the queue of the tasks that prefer a process. From there they go to the work queue when the process has not
 * taken them in time, also because it died.
 */
export async function declareOwnQueue(model: ChannelModel, layout: Layout, process: string): Promise<void> {
  const channel = await model.createChannel();
  channel.on("error", () => undefined);
  await declareQueue(channel, layout, ownQueue(layout, process), {
    "x-message-ttl": OWN_WAIT_MS,
    "x-expires": OWN_QUEUE_EXPIRES_MS,
    ...deadLetterTo(layout, layout.queue),
  });
  await channel.close();
}

/** Each queue is bound under its own name. Only quorum queues have delivery limits and confirmed dead-lettering. */
async function declareQueue(
  channel: Channel,
  layout: Layout,
  name: string,
  queueArguments: Record<string, unknown>,
): Promise<void> {
  const entries = Object.entries(queueArguments).filter(
    ([key]) => layout.queueType === "quorum" || !QUORUM_ONLY.has(key),
  );
  const args = { "x-queue-type": layout.queueType, ...Object.fromEntries(entries) };
  await explainConflict(name, channel.assertQueue(name, { durable: true, arguments: args }));
  await channel.bindQueue(name, layout.exchange, name);
}

const QUORUM_ONLY = new Set(["x-delivery-limit", "x-dead-letter-strategy", "x-overflow"]);

/**
 * At-least-once dead-lettering: the queue keeps a message until its target has confirmed it. That needs reject-publish.
 */
const deadLetterTo = ({ exchange }: Layout, name: string) => ({
  "x-dead-letter-exchange": exchange,
  "x-dead-letter-routing-key": name,
  "x-dead-letter-strategy": "at-least-once",
  "x-overflow": "reject-publish",
});

async function explainConflict(name: string, declared: Promise<unknown>): Promise<void> {
  try {
    await declared;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    if (!text.includes("PRECONDITION_FAILED") && !text.includes("RESOURCE_LOCKED")) throw error;
    const remedy =
      "delete it on the broker once it is empty, or set RABBITMQ_QUEUE and RABBITMQ_EXCHANGE to names of your own";
    throw new Problem("config", `${name} exists on the broker with other arguments; ${remedy}`, {
      retry: "never",
      evidence: quoteWords(text, { secrets: [] }),
      cause: error,
    });
  }
}
