/** Taking tasks from RabbitMQ: each is acknowledged only after what became of it is safe. */
import type { ConsumeMessage } from "amqplib";
import { Problem } from "../../contract/problem.ts";
import { within } from "../../time.ts";
import type { Perform } from "../queue.ts";
import { handling, type HandlingDeps, type Held } from "./handler.ts";
import type { Link, Session } from "./connection.ts";
import { arrival } from "./message.ts";
import { places, type Places, prefetchFor } from "./concurrency.ts";

export type Work = {
  perform: Perform;
  concurrency: number;
  /** Below 0 for one who stands in: the broker gives it tasks only while no other consumer has room. */
  priority: number;
};

/** `stop` ends the handing out; what is in hand can be answered until `close`, which waits until the answers have arrived. */
export type Consumer = { stop(): Promise<void>; close(): Promise<void> };

type SourceDeps = HandlingDeps & {
  /** Opens the connection that is consumed from; `setup` is called on each new one. */
  open: (setup: (session: Session) => Promise<Consumer>) => Link<Consumer>;
  /** Those who consume in this process, for counting. */
  rooms: Set<Places>;
};

/** How long a shutdown waits for tasks in flight. */
const GRACE_MS = 10_000;
const CANCEL_MS = 2_000;
/** How long the first tasks of a new connection are collected before any is started. */
const LOOK_MS = 50;

/** Consumes until the signal aborts; then nothing new is taken, what is in flight is waited for, the rest goes back. */
export async function consume(deps: SourceDeps, work: Work, signal: AbortSignal): Promise<void> {
  const end = new AbortController();
  const room = places(work.concurrency);
  const handle = handling(deps, work.perform, room, { signal, end: end.signal });
  const inHand = new Map<Held, Promise<void>>();
  const take = (held: Held) => {
    const handled = handle(held).finally(() => inHand.delete(held));
    inHand.set(held, handled);
  };
  const link = deps.open((session) => {
    room.pause(LOOK_MS);
    return subscribe(deps, work, session, take);
  });
  deps.rooms.add(room);
  try {
    await aborted(signal);
    room.clear();
    await link.current()?.stop();
    await finished([...inHand.values()]);
  } finally {
    end.abort();
    deps.rooms.delete(room);
    // Since 4.3 a connection that ends counts against the tasks in its hands; one that is given back does not.
    for (const held of inHand.keys()) held.giveBack();
    await link.close();
  }
}

async function subscribe(
  { layout }: SourceDeps,
  work: Work,
  session: Session,
  take: (held: Held) => void,
): Promise<Consumer> {
  const channel = await session.model.createChannel();
  channel.on("error", (error) => session.cut(new Problem("queue", `RabbitMQ ended the consuming: ${error.message}`)));
  channel.on("close", () => session.cut(new Problem("queue", "RabbitMQ closed the channel")));
  // Per consumer: a limit for the whole channel (global) is refused by quorum queues and by 4.3.
  await channel.prefetch(prefetchFor(work.concurrency));
  const received = (message: ConsumeMessage | null) => {
    if (message === null) return session.cut(new Problem("queue", `The queue ${layout.queue} was deleted`));
    return take(heldBy(message));
  };
  const { consumerTag } = await channel.consume(layout.queue, received, { priority: work.priority });
  return {
    stop: () => tried("Cancelling the consumer", channel.cancel(consumerTag)),
    close: () => tried("Closing the channel", channel.close()),
  };

  function heldBy(message: ConsumeMessage): Held {
    let answered = false;
    const once = (answer: () => void) => () => {
      if (answered || session.gone.aborted) return;
      answered = true;
      answer();
    };
    return {
      ...arrival(message),
      gone: session.gone,
      done: once(() => channel.ack(message)),
      giveBack: once(() => channel.nack(message, false, true)),
    };
  }
}

/** A connection that cannot even do this is about to end, which has the same effect. */
function tried(what: string, work: Promise<unknown>): Promise<void> {
  return within(CANCEL_MS, what, work).then(ignore, ignore);
}

function ignore(): void {}

/** What is not finished in time is given back, to be done again; its late outcome is ignored. */
async function finished(inHand: Promise<void>[]): Promise<void> {
  await within(GRACE_MS, "Finishing the tasks in flight", Promise.allSettled(inHand)).catch((error: unknown) => {
    if (!(error instanceof Problem)) throw error;
  });
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}
