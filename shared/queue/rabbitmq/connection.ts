/**
 * A connection to RabbitMQ that is opened again whenever it ends. The client library can reconnect too, but it knows
 * one host only, and it waits without end for a broker that hangs during the setup or the close.
 */
import { Duplex } from "node:stream";
import { type ChannelModel, connect } from "amqplib";
import { untilAborted } from "../../concurrency/abort.ts";
import { waitingLine } from "../../concurrency/waiting-line.ts";
import { isCertificateError, Problem } from "../../contract/problem.ts";
import type { Evidence } from "../../contract/evidence.ts";
import { quoteWords } from "../../evidence/evidence.ts";
import { jitter, sleep, withTimeout } from "../../time.ts";
import type { RabbitAddress } from "./address.ts";
import type { ConnectionHealth } from "./health.ts";

/** One open connection. */
export type BrokerSession = {
  model: ChannelModel;
  /** Aborts when the connection has ended. Then nothing can be published or acknowledged on it. */
  closed: AbortSignal;
  /** Closes the socket at once, for this reason. */
  destroy(why: Problem): void;
};

export type ConnectionOptions<T> = {
  addresses: readonly RabbitAddress[];
  /** The trusted CA in PEM, instead of the system's. */
  ca?: string | undefined;
  /** The name of the connection in RabbitMQ's lists. */
  name: string;
  /** Prepares a new connection, for example its channels. If it throws, the connection is closed and opened again. */
  setup: (session: BrokerSession) => Promise<T>;
  /** Ends what `setup` made before a connection is closed normally. Must not throw. */
  beforeClose?: ((made: T) => Promise<void>) | undefined;
  /** Called when a connection is ready, and at every failure. */
  health: ConnectionHealth;
};

export type RabbitConnection<T> = {
  /** What `setup` made on the present connection. */
  current(): T | undefined;
  /** Why there is no connection. Null while there is one. */
  trouble(): Problem | null;
  /** Whether there has been a connection since the start. */
  wasUp(): boolean;
  /** The same as `current`, but waits at most `ms` for it, then throws the reason. */
  ready(ms: number): Promise<T>;
  close(): Promise<void>;
};

/** The time for DNS, TCP, TLS and the login together. */
const CONNECT_MS = 10_000;
const SETUP_MS = 20_000;
const CLOSE_MS = 2_000;
/** Waits before the next try. The last one repeats. */
const RECONNECT_WAITS_MS = [100, 500, 1_000, 2_000, 5_000];

/** Keeps a connection to one of the addresses, tried in turn, until it is closed. */
export function rabbitConnection<T>(options: ConnectionOptions<T>): RabbitConnection<T> {
  const stop = new AbortController();
  const waiting = waitingLine<undefined, T>();
  let made: T | undefined;
  let trouble = new Problem("queue", "RabbitMQ has not been reached yet");
  let wasUp = false;
  const up = (fresh: T) => {
    made = fresh;
    wasUp = true;
    options.health.onUp();
    for (let next = waiting.first(); next; next = waiting.first()) next.admit(fresh);
  };
  const down = (why: Problem) => {
    made = undefined;
    if (stop.signal.aborted) return;
    trouble = why;
    options.health.onDown(why);
  };
  const reconnecting = reconnectUntilAborted(options, { up, down }, stop.signal);
  return {
    current: () => made,
    trouble: () => (made === undefined ? trouble : null),
    wasUp: () => wasUp,
    async ready(ms) {
      return made ?? waiting.wait(undefined, { ms, late: () => trouble });
    },
    async close() {
      stop.abort(new Problem("queue", "The connection to RabbitMQ was closed"));
      await reconnecting;
      options.health.forget();
    },
  };
}

type StatusCallbacks<T> = { up: (made: T) => void; down: (why: Problem) => void };

async function reconnectUntilAborted<T>(
  options: ConnectionOptions<T>,
  callbacks: StatusCallbacks<T>,
  signal: AbortSignal,
): Promise<void> {
  let failures = 0;
  const up = (made: T) => {
    failures = 0;
    callbacks.up(made);
  };
  for (let attempt = 0; !signal.aborted; attempt += 1) {
    const address = options.addresses[attempt % options.addresses.length];
    if (!address) throw new Problem("config", "RABBITMQ_URL names no broker", { retry: "never" });
    try {
      await runConnection(options, address, up, signal);
    } catch (error) {
      callbacks.down(toQueueProblem(error, address));
    }
    failures += 1;
    await sleep(jitter(RECONNECT_WAITS_MS[Math.min(failures, RECONNECT_WAITS_MS.length) - 1] ?? 0), signal);
  }
}

/** One connection from its start to its end. Throws the reason of the end, unless the signal ended it. */
async function runConnection<T>(
  options: ConnectionOptions<T>,
  address: RabbitAddress,
  up: (made: T) => void,
  signal: AbortSignal,
): Promise<void> {
  const session = await openSession(options, address, signal);
  try {
    const made = await withTimeout(SETUP_MS, "Declaring the queues on RabbitMQ", options.setup(session), signal);
    up(made);
    await untilAborted(session.closed, signal);
    if (!signal.aborted) throw session.closed.reason;
    await options.beforeClose?.(made);
  } finally {
    await closeSession(session);
  }
}

async function openSession<T>(
  options: ConnectionOptions<T>,
  address: RabbitAddress,
  signal: AbortSignal,
): Promise<BrokerSession> {
  const connecting = connect(address.options, {
    clientProperties: { connection_name: options.name },
    noDelay: true,
    keepAlive: true,
    keepAliveDelay: 30_000,
    timeout: CONNECT_MS,
    ...(options.ca !== undefined && { ca: options.ca }),
  });
  try {
    return createSession(await withTimeout(CONNECT_MS, `Connecting to ${address.redactedUrl}`, connecting, signal));
  } catch (error) {
    // If it succeeds later, nobody waits for it, so it is closed.
    connecting.then(
      (late) => closeSession(createSession(late)),
      () => undefined,
    );
    throw error;
  }
}

function createSession(model: ChannelModel): BrokerSession {
  const gone = new AbortController();
  const end = (error: unknown) => gone.abort(error ?? new Problem("queue", "RabbitMQ closed the connection"));
  model.on("error", end);
  model.on("close", end);
  return {
    model,
    closed: gone.signal,
    destroy(why) {
      end(why);
      const { connection } = model;
      // The client library ends a connection only by an exchange with the broker. Destroying the socket ends it at
      // once, and its timers with it.
      if ("stream" in connection && connection.stream instanceof Duplex) connection.stream.destroy(why);
    },
  };
}

/** Closes the connection with the protocol's close, and destroys the socket in any case. */
async function closeSession(session: BrokerSession): Promise<void> {
  const reason = new Problem("queue", "The connection to RabbitMQ was closed");
  // If the close fails, the socket is destroyed all the same.
  if (!session.closed.aborted) await withTimeout(CLOSE_MS, "Closing", session.model.close()).catch(() => undefined);
  session.destroy(reason);
}

function toQueueProblem(error: unknown, { redactedUrl: shown, options }: RabbitAddress): Problem {
  if (error instanceof Problem) return error;
  const words = error instanceof Error ? error.message : String(error);
  const evidence = quoteWords(words, { secrets: options.password === undefined ? [] : [options.password] });
  if (isAccessRefused(evidence)) {
    // The same code for a wrong password and for a user who may log in but may not use a queue.
    if (evidence.startsWith("Handshake terminated"))
      return refusal("RABBITMQ_PASSWORD", `RabbitMQ refuses the login of ${shown}`, { evidence, cause: error });
    const message = `RabbitMQ gives the user of ${shown} too few permissions: ${evidence}`;
    return refusal("RABBITMQ_LOGIN", message, { evidence, cause: error });
  }
  if (isCertificateError(error)) {
    const message = `The certificate of ${shown} is not trusted (RABBITMQ_CA says who signs it): ${evidence}`;
    return refusal("RABBITMQ_CA", message, { cause: error });
  }
  // The broker says more, but the client library does not pass it on.
  if (evidence.startsWith("Expected ConnectionOpenOk")) {
    const message = `The virtual host of ${shown} does not exist, or is not for this user`;
    return refusal("RABBITMQ_URL", message, { cause: error });
  }
  return new Problem("queue", `No connection to ${shown}: ${evidence}`, { evidence, cause: error });
}

/** The broker refuses a login, or a step that needs another permission. */
export const isAccessRefused = (words: string): boolean => /ACCESS[_-]REFUSED/.test(words);

/** The broker will refuse this node until somebody changes this setting, or the broker. */
function refusal(setting: string, message: string, rest: { evidence?: Evidence; cause: unknown }): Problem {
  return new Problem("queue", message, {
    ...rest,
    errors: [{ path: setting, message: "is not accepted by RabbitMQ" }],
  });
}
