/**
 * What the service needs on the broker: one exchange, the work queue, a queue for each length of wait, and a queue for what is
 * parked. The arguments are right for RabbitMQ 3.10 and all of 4.x.
 */
import type { Channel, ChannelModel } from "amqplib";
import { Problem } from "../../contract/problem.ts";

export type Layout = {
  exchange: string;
  queue: string;
  queueType: "quorum" | "classic";
  /** How often a task may be handed out without an answer, because its worker died. */
  deliveryLimit: number;
  /** Lengths of the waits in milliseconds, ascending. */
  delaysMs: readonly number[];
  /** How long a task whose lane is full stays away, the first time, the second, and from then on. */
  turnsMs: readonly number[];
};

/**
 * Fixed lengths, a queue each: a queue only looks at its first message to see what has expired, so waits of different lengths
 * in one queue would hold each other up. Longer or odd waits are several of these in turn.
 */
export const DELAYS_MS: readonly number[] = [1, 5, 15, 60, 300, 900, 3600, 14_400].map((seconds) => seconds * 1000);

/**
 * Such tasks are due and wait for their turn only, so they have queues of their own. A task comes back the more rarely the more
 * often it came in vain, or a lane with ten thousand of them would keep the broker busy.
 */
export const TURNS_MS: readonly number[] = [1_000, 5_000, 15_000];

/** Parked tasks are looked at by taking and giving them back, which the broker counts; a limit cannot be left out on 4.x. */
const PARKED_DELIVERY_LIMIT = 1_000_000;

export const delayQueue = ({ queue }: Pick<Layout, "queue">, ms: number): string => `${queue}.delay.${ms}`;
export const turnQueue = ({ queue }: Pick<Layout, "queue">, ms: number): string => `${queue}.turn.${ms}`;
export const parkedQueue = ({ queue }: Pick<Layout, "queue">): string => `${queue}.parked`;

/**
 * The length of the next wait, of `ms` still to go: the longest that does not overshoot, or one that overshoots by so little
 * that another round is not worth it.
 */
export function nextDelay(delaysMs: readonly number[], ms: number): number {
  const enough = delaysMs.find((delay) => delay >= ms);
  if (enough !== undefined && enough - ms <= Math.min(ms / 5, 30_000)) return enough;
  return delaysMs.findLast((delay) => delay <= ms) ?? delaysMs[0] ?? 1000;
}

/** Declares everything; what exists already with the same arguments stays as it is. Throws `config` when something differs. */
export async function declare(model: ChannelModel, layout: Layout): Promise<void> {
  const { exchange, queue, delaysMs, turnsMs } = layout;
  const channel = await model.createChannel();
  // The call that made the broker close the channel rejects with the same error.
  channel.on("error", () => undefined);
  await named(exchange, channel.assertExchange(exchange, "direct", { durable: true }));
  await bound(channel, layout, parkedQueue(layout), { "x-delivery-limit": PARKED_DELIVERY_LIMIT });
  await bound(channel, layout, queue, {
    "x-delivery-limit": layout.deliveryLimit,
    ...deadTo(layout, parkedQueue(layout)),
  });
  const waits = [
    ...delaysMs.map((ms) => ({ name: delayQueue(layout, ms), ms })),
    ...turnsMs.map((ms) => ({ name: turnQueue(layout, ms), ms })),
  ];
  for (const { name, ms } of waits)
    await bound(channel, layout, name, { "x-message-ttl": ms, ...deadTo(layout, queue) });
  await channel.close();
}

/** Every queue is bound under its own name. Delivery limits, and dead letters that are confirmed, exist for quorum queues only. */
async function bound(channel: Channel, layout: Layout, name: string, wanted: Record<string, unknown>): Promise<void> {
  const entries = Object.entries(wanted).filter(([key]) => layout.queueType === "quorum" || !QUORUM_ONLY.has(key));
  const args = { "x-queue-type": layout.queueType, ...Object.fromEntries(entries) };
  await named(name, channel.assertQueue(name, { durable: true, arguments: args }));
  await channel.bindQueue(name, layout.exchange, name);
}

const QUORUM_ONLY = new Set(["x-delivery-limit", "x-dead-letter-strategy", "x-overflow"]);

/** At least once: the queue keeps a dead letter until its target has confirmed it, which needs reject-publish. */
const deadTo = ({ exchange }: Layout, name: string) => ({
  "x-dead-letter-exchange": exchange,
  "x-dead-letter-routing-key": name,
  "x-dead-letter-strategy": "at-least-once",
  "x-overflow": "reject-publish",
});

async function named(name: string, declared: Promise<unknown>): Promise<void> {
  try {
    await declared;
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    if (!text.includes("PRECONDITION_FAILED") && !text.includes("RESOURCE_LOCKED")) throw error;
    const remedy =
      "delete it on the broker once it is empty, or set RABBITMQ_QUEUE and RABBITMQ_EXCHANGE to names of your own";
    throw new Problem("config", `${name} exists on the broker with other arguments; ${remedy}`, {
      retry: "never",
      evidence: text,
      cause: error,
    });
  }
}
