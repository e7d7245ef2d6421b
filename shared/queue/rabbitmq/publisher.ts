/** Publishing that is over only when the broker has confirmed it, many at a time. */
import type { ConfirmChannel } from "amqplib";
import { Problem } from "../../contract/problem.ts";
import { limit } from "../../concurrency/semaphore.ts";
import type { Pulse } from "./health.ts";
import type { Link, Session } from "./connection.ts";
import type { Outgoing } from "./message.ts";

/** The confirm channel of one connection, and the publishes on it that are not confirmed yet. */
export type Outlet = {
  session: Session;
  channel: ConfirmChannel;
  /** Publishes that no queue took: the broker returns them, and confirms them after that. */
  returned: Set<string>;
  unconfirmed: Set<(why: Problem) => void>;
  /** Why the broker takes nothing at the moment (an alarm for memory or disk). */
  blocked: Problem | null;
};

export type Publisher = {
  /**
   * Resolves when the broker has the message safely: written by a majority of a quorum queue, or by a classic one. Throws
   * `queue` (later) when it has not in time, at once when it is known that it will not.
   */
  publish(message: Outgoing): Promise<void>;
};

/** One by one, confirms allow about 1,000 a second; beyond some hundreds at a time nothing is gained. */
const WINDOW = 200;

/** Opens the confirm channel of a connection. Whatever ends the channel ends the connection: a new one declares everything anew. */
export async function openOutlet(session: Session, pulse: Pulse): Promise<Outlet> {
  const channel = await session.model.createConfirmChannel();
  const outlet: Outlet = { session, channel, returned: new Set(), unconfirmed: new Set(), blocked: null };
  const refuse = (why: Problem) => {
    for (const settle of outlet.unconfirmed) settle(why);
  };
  channel.on("return", ({ properties }) => outlet.returned.add(String(properties.correlationId)));
  channel.on("error", (error) => session.cut(new Problem("queue", `RabbitMQ refused a task: ${error.message}`)));
  channel.on("close", () => session.cut(new Problem("queue", "RabbitMQ closed the channel")));
  session.model.on("blocked", (reason) => {
    outlet.blocked = new Problem("queue", "RabbitMQ takes nothing until an alarm is over", { evidence: reason });
    pulse.onDown(outlet.blocked);
    refuse(outlet.blocked);
  });
  session.model.on("unblocked", () => {
    outlet.blocked = null;
    pulse.onUp();
  });
  session.gone.addEventListener("abort", () => refuse(lostProblem()), { once: true });
  return outlet;
}

const lostProblem = () => new Problem("queue", "The connection to RabbitMQ was lost before it confirmed the task");

const crowdedProblem = () => new Problem("queue", "Too many tasks wait for RabbitMQ to confirm them");

export function rabbitPublisher(link: Link<Outlet>, exchange: string, confirmMs: number): Publisher {
  const places = limit(WINDOW);
  let sequence = 0;
  return {
    async publish(message) {
      const deadline = performance.now() + confirmMs;
      const left = () => Math.max(1, deadline - performance.now());
      const leave = await places.enter({ ms: confirmMs, late: crowdedProblem });
      try {
        const outlet = await link.ready(left());
        if (outlet.blocked) throw outlet.blocked;
        sequence += 1;
        await confirmed(outlet, { exchange, message, correlationId: String(sequence) }, left());
      } finally {
        leave();
      }
    },
  };
}

type Publish = { exchange: string; message: Outgoing; correlationId: string };

function confirmed(outlet: Outlet, { exchange, message, correlationId }: Publish, ms: number): Promise<void> {
  if (outlet.session.gone.aborted) return Promise.reject(lostProblem());
  return new Promise((resolve, reject) => {
    const over = (error: unknown) => {
      if (error) return settle(new Problem("queue", "RabbitMQ did not take the task", { cause: error }));
      if (!outlet.returned.delete(correlationId)) return settle();
      const lost = new Problem("queue", `No queue on RabbitMQ takes tasks for ${message.to}`);
      settle(lost);
      // Somebody deleted it: a new connection declares it anew.
      return outlet.session.cut(lost);
    };
    const { to, content, ...properties } = message;
    const options = { ...properties, correlationId, persistent: true, mandatory: true };
    outlet.channel.publish(exchange, to, content, options, over);
    const timer = setTimeout(() => {
      const late = new Problem("queue", "RabbitMQ did not confirm a task in time");
      settle(late);
      // A broker that does not answer is looked for anew; the connection might hang without an error.
      outlet.session.cut(late);
    }, ms);
    outlet.unconfirmed.add(settle);

    function settle(why?: Problem) {
      clearTimeout(timer);
      outlet.unconfirmed.delete(settle);
      if (why) reject(why);
      else resolve();
    }
  });
}
