/** Publishes messages and waits for the broker's confirm, many at a time. */
import type { ConfirmChannel } from "amqplib";
import { Problem } from "../../contract/problem.ts";
import { quoteWords } from "../../evidence/evidence.ts";
import { semaphore } from "../../concurrency/semaphore.ts";
import type { ConnectionHealth } from "./health.ts";
import type { RabbitConnection, BrokerSession } from "./connection.ts";
import type { OutboundMessage } from "./message.ts";

/** The confirm channel of one connection, and its unconfirmed messages. */
export type PublishChannel = {
  session: BrokerSession;
  channel: ConfirmChannel;
  /** Messages that were routed to no queue. The broker returns them before it confirms them. */
  returned: Set<string>;
  unconfirmed: Set<(why: Problem) => void>;
  /** Why the broker accepts no messages now (an alarm for memory or disk). */
  blocked: Problem | null;
};

export type Publisher = {
  /**
   * Resolves when the broker has confirmed the message: a majority of a quorum queue has it, or a classic queue. Throws
   * `queue` (retry later) at the timeout, or at once if it is known that no confirm will come. A message that was not
   * given to the broker before the signal aborts is never given to it.
   */
  publish(message: OutboundMessage, signal?: AbortSignal): Promise<void>;
};

/** One by one, about 1,000 confirms a second are possible. More than some hundreds at a time bring no gain. */
const MAX_UNCONFIRMED = 200;

/**
 * Opens the confirm channel of a connection. When the channel ends, its connection is closed: the next one declares
 * everything again.
 */
export async function openPublishChannel(session: BrokerSession, health: ConnectionHealth): Promise<PublishChannel> {
  const channel = await session.model.createConfirmChannel();
  const publishChannel: PublishChannel = {
    session,
    channel,
    returned: new Set(),
    unconfirmed: new Set(),
    blocked: null,
  };
  const rejectUnconfirmed = (why: Problem) => {
    for (const settle of publishChannel.unconfirmed) settle(why);
  };
  channel.on("return", ({ properties }) => publishChannel.returned.add(String(properties.correlationId)));
  channel.on("error", (error) => session.destroy(new Problem("queue", `RabbitMQ refused a task: ${error.message}`)));
  channel.on("close", () => session.destroy(new Problem("queue", "RabbitMQ closed the channel")));
  session.model.on("blocked", (reason) => {
    publishChannel.blocked = new Problem("queue", "RabbitMQ accepts no messages until an alarm is over", {
      evidence: quoteWords(reason, { secrets: [] }),
    });
    health.onDown(publishChannel.blocked);
    rejectUnconfirmed(publishChannel.blocked);
  });
  session.model.on("unblocked", () => {
    publishChannel.blocked = null;
    health.onUp();
  });
  session.closed.addEventListener("abort", () => rejectUnconfirmed(connectionLost()), { once: true });
  return publishChannel;
}

const connectionLost = () => new Problem("queue", "The connection to RabbitMQ was lost before it confirmed the task");

const tooManyUnconfirmed = () => new Problem("queue", "Too many tasks wait for RabbitMQ to confirm them");

export function rabbitPublisher(
  connection: RabbitConnection<PublishChannel>,
  exchange: string,
  confirmMs: number,
): Publisher {
  const slots = semaphore(MAX_UNCONFIRMED);
  let sequence = 0;
  return {
    async publish(message, signal) {
      const deadline = performance.now() + confirmMs;
      const left = () => Math.max(1, deadline - performance.now());
      using _ = await slots.acquire({ ms: confirmMs, late: tooManyUnconfirmed }, signal);
      const publishChannel = await connection.ready(left());
      signal?.throwIfAborted();
      if (publishChannel.blocked) throw publishChannel.blocked;
      const publishTo = (to: string) => {
        sequence += 1;
        const request = { exchange, message: { ...message, to }, correlationId: String(sequence) };
        return publishConfirmed(publishChannel, request, left());
      };
      const { to, otherwise } = message;
      let refusal = await publishTo(to);
      if (refusal && otherwise !== undefined) {
        signal?.throwIfAborted();
        refusal = await publishTo(otherwise);
      }
      if (refusal?.isUnroutable) publishChannel.session.destroy(refusal.why);
      if (refusal) throw refusal.why;
    },
  };
}

/** `isUnroutable`: somebody deleted the queue. The next connection declares it again. */
type Refusal = { why: Problem; isUnroutable: boolean };
type PublishRequest = { exchange: string; message: OutboundMessage; correlationId: string };

/** Resolves with the reason if the broker has answered that it did not take the message. */
function publishConfirmed(
  publishChannel: PublishChannel,
  { exchange, message, correlationId }: PublishRequest,
  ms: number,
): Promise<Refusal | undefined> {
  if (publishChannel.session.closed.aborted) return Promise.reject(connectionLost());
  return new Promise((resolve, reject) => {
    const onConfirm = (error: unknown) => {
      settle();
      const isUnroutable = publishChannel.returned.delete(correlationId);
      if (!error && !isUnroutable) return resolve(undefined);
      const why = error
        ? new Problem("queue", "RabbitMQ did not accept the task", { cause: error })
        : new Problem("queue", `RabbitMQ has no queue for the routing key ${message.to}`);
      return resolve({ why, isUnroutable: !error });
    };
    const { to, otherwise: _, content, ...properties } = message;
    const options = { ...properties, correlationId, persistent: true, mandatory: true };
    publishChannel.channel.publish(exchange, to, content, options, onConfirm);
    const timer = setTimeout(() => {
      const late = new Problem("queue", "RabbitMQ did not confirm a task in time");
      fail(late);
      // The connection may hang without an error, so the next one starts from DNS.
      publishChannel.session.destroy(late);
    }, ms);
    publishChannel.unconfirmed.add(fail);

    function settle() {
      clearTimeout(timer);
      publishChannel.unconfirmed.delete(fail);
    }
    function fail(why: Problem) {
      settle();
      reject(why);
    }
  });
}
