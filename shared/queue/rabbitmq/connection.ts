/**
 * One connection to the broker that is opened again whenever it ends. The client has a recovery of its own, but that knows one
 * host only, and waits without end for a broker that hangs while it is set up or closed.
 */
import { Duplex } from "node:stream";
import { type ChannelModel, connect } from "amqplib";
import { isUntrusted, Problem } from "../../contract/problem.ts";
import { jittered, slept, within } from "../../time.ts";
import type { RabbitAddress } from "./address.ts";
import type { Pulse } from "./health.ts";

/** One connection's life. */
export type Session = {
  model: ChannelModel;
  /** Aborts when the connection has ended: nothing can be published or acknowledged on it any more. */
  gone: AbortSignal;
  /** Ends the connection at once, because of this. */
  cut(why: Problem): void;
};

export type LinkOptions<T> = {
  addresses: readonly RabbitAddress[];
  /** PEM of the CA to trust instead of the system's. */
  ca?: string | undefined;
  /** What the broker's lists call this connection. */
  name: string;
  /** Makes what is needed on a new connection; if it throws, the connection is closed and tried again. */
  setup: (session: Session) => Promise<T>;
  /** Brings what was made to an end before a connection is closed in good order. Must not throw. */
  quit?: ((made: T) => Promise<void>) | undefined;
  /** Told when a connection is set up, and at every failure after which there is none. */
  pulse: Pulse;
};

export type Link<T> = {
  /** What `setup` made on the present connection. */
  current(): T | undefined;
  /** Why there is no connection, null while there is one. */
  trouble(): Problem | null;
  /** The same, waited for at most `ms`; past that it throws why there is none. */
  ready(ms: number): Promise<T>;
  close(): Promise<void>;
};

/** DNS, TCP, TLS and login together. */
const CONNECT_MS = 10_000;
const SETUP_MS = 20_000;
const CLOSE_MS = 2_000;
/** Waits before the next try; the last one repeats. */
const WAITS_MS = [100, 500, 1_000, 2_000, 5_000];

/** Keeps a connection to one of the addresses, tried in turn, until it is closed. */
export function rabbitLink<T>(options: LinkOptions<T>): Link<T> {
  const stop = new AbortController();
  const waiting = new Set<(made: T) => void>();
  let made: T | undefined;
  let trouble = new Problem("queue", "RabbitMQ has not been reached yet");
  const up = (fresh: T) => {
    made = fresh;
    options.pulse.onUp();
    for (const go of waiting) go(fresh);
  };
  const down = (why: Problem) => {
    made = undefined;
    if (stop.signal.aborted) return;
    trouble = why;
    options.pulse.onDown(why);
  };
  const kept = keep(options, { up, down }, stop.signal);
  return {
    current: () => made,
    trouble: () => (made === undefined ? trouble : null),
    ready(ms) {
      if (made !== undefined) return Promise.resolve(made);
      return new Promise((resolve, reject) => {
        const go = (fresh: T) => {
          clearTimeout(timer);
          waiting.delete(go);
          resolve(fresh);
        };
        const timer = setTimeout(() => {
          waiting.delete(go);
          reject(trouble);
        }, ms);
        waiting.add(go);
      });
    },
    async close() {
      stop.abort(new Problem("queue", "The connection to RabbitMQ was closed"));
      await kept;
      options.pulse.forget();
    },
  };
}

type Tell<T> = { up: (made: T) => void; down: (why: Problem) => void };

async function keep<T>(options: LinkOptions<T>, tell: Tell<T>, signal: AbortSignal): Promise<void> {
  let failures = 0;
  const up = (made: T) => {
    failures = 0;
    tell.up(made);
  };
  for (let turn = 0; !signal.aborted; turn += 1) {
    const address = options.addresses[turn % options.addresses.length];
    if (!address) throw new Problem("config", "RABBITMQ_URL names no broker", { retry: "never" });
    try {
      await live(options, address, up, signal);
    } catch (error) {
      tell.down(asQueueProblem(error, address));
    }
    failures += 1;
    await slept(jittered(WAITS_MS[Math.min(failures, WAITS_MS.length) - 1] ?? 0), signal);
  }
}

/** One connection from its opening to its end; throws why it ended, unless the signal did it. */
async function live<T>(
  options: LinkOptions<T>,
  address: RabbitAddress,
  up: (made: T) => void,
  signal: AbortSignal,
): Promise<void> {
  const session = await open(options, address, signal);
  try {
    const made = await within(SETUP_MS, "Declaring the queues on RabbitMQ", options.setup(session), signal);
    up(made);
    await aborted(session.gone, signal);
    if (!signal.aborted) throw session.gone.reason;
    await options.quit?.(made);
  } finally {
    await shut(session);
  }
}

function aborted(...signals: AbortSignal[]): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of signals) {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    }
  });
}

async function open<T>(options: LinkOptions<T>, address: RabbitAddress, signal: AbortSignal): Promise<Session> {
  const connecting = connect(address.options, {
    clientProperties: { connection_name: options.name },
    noDelay: true,
    keepAlive: true,
    keepAliveDelay: 30_000,
    timeout: CONNECT_MS,
    ...(options.ca !== undefined && { ca: options.ca }),
  });
  try {
    return sessionOf(await within(CONNECT_MS, `Connecting to ${address.shown}`, connecting, signal));
  } catch (error) {
    // Should it come to pass after all, nobody is waiting for it any more.
    connecting.then(
      (late) => shut(sessionOf(late)),
      () => undefined,
    );
    throw error;
  }
}

function sessionOf(model: ChannelModel): Session {
  const gone = new AbortController();
  const end = (error: unknown) => gone.abort(error ?? new Problem("queue", "RabbitMQ closed the connection"));
  model.on("error", end);
  model.on("close", end);
  return {
    model,
    gone: gone.signal,
    cut(why) {
      end(why);
      const { connection } = model;
      // The client ends a connection by talking to the broker only; with an error its socket goes, and its timers with it.
      if ("stream" in connection && connection.stream instanceof Duplex) connection.stream.destroy(why);
    },
  };
}

/** Says goodbye if the broker still listens, and ends the connection in any case. */
async function shut(session: Session): Promise<void> {
  const over = new Problem("queue", "The connection to RabbitMQ was closed");
  // A goodbye that fails changes nothing: the socket is destroyed right after it.
  if (!session.gone.aborted) await within(CLOSE_MS, "Closing", session.model.close()).catch(() => undefined);
  session.cut(over);
}

function asQueueProblem(error: unknown, { shown }: RabbitAddress): Problem {
  if (error instanceof Problem) return error;
  const evidence = error instanceof Error ? error.message : String(error);
  if (evidence.includes("ACCESS_REFUSED") || evidence.includes("ACCESS-REFUSED"))
    return new Problem("queue", `RabbitMQ refuses the login of ${shown}`, { evidence, cause: error });
  if (isUntrusted(error))
    return new Problem(
      "queue",
      `The certificate of ${shown} is not trusted (RABBITMQ_CA says who signs it): ${evidence}`,
      {
        cause: error,
      },
    );
  // The broker says more, but the client keeps it to itself.
  if (evidence.startsWith("Expected ConnectionOpenOk"))
    return new Problem("queue", `The virtual host of ${shown} does not exist, or is not for this user`, {
      cause: error,
    });
  return new Problem("queue", `No connection to ${shown}: ${evidence}`, { evidence, cause: error });
}
