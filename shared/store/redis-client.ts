/** The connection to Redis: commands and scripts with a deadline each, a bounded wait while it is away, faults as Problems. */
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { isUntrusted, Problem } from "../contract/problem.ts";
import { jittered, within } from "../time.ts";
import { type RedisPlace, redisPlace } from "./redis-url.ts";

export type RedisArgument = string | number | Buffer;

/** A Lua script and the hash Redis knows it by. All keys of one script begin with KEYS[1], which holds their hash tag. */
export type RedisScript = { source: string; sha: string };

export interface RedisConnection {
  /** Where it is connected to, without credentials. */
  readonly shown: string;
  /** Sends one command. Throws `store`, to be tried again later, when it is not answered within `ms` (5 s by default). */
  send(command: string, args: RedisArgument[], ms?: number): Promise<unknown>;
  /** The same with texts as bytes. Like all large values they travel on a connection of their own, and hold up nothing else. */
  sendForBytes(command: string, args: RedisArgument[], ms?: number): Promise<unknown>;
  /** Runs a script in one step. A script may have run although its answer was lost. */
  run(script: RedisScript, key: string, args: RedisArgument[], ms?: number): Promise<unknown>;
  /** Sends a command to every node that holds data: each server of a cluster, else the one there is. */
  everywhere(command: string, args: string[]): Promise<unknown[]>;
  /** Calls `heard` for each message on the channel until the connection is closed, on a connection of its own. */
  subscribe(channel: string, heard: (message: string) => void): Promise<void>;
  close(): Promise<void>;
}

/** How long a command may take; a hung server must not hang the service. */
const COMMAND_MS = 5_000;
/** Commands under way or waiting for the connection; beyond it the next is refused at once instead of filling memory. */
const AT_ONCE = 20_000;
/** No byte for this long while something is awaited: the connection is made again. */
const SILENT_MS = 15_000;

/** A script, ready to be run. */
export function redisScript(...parts: string[]): RedisScript {
  const source = parts.join("\n");
  return { source, sha: createHash("sha1").update(source).digest("hex") };
}

/**
 * Connects to the server, the master that the Sentinels name, or the cluster, and keeps the connection alive: it is made again after
 * every loss, also after a fail-over (a demoted master answers READONLY; a server that is LOADING is waited for). What was under way when
 * it broke is reported as failed and never sent again by itself. `ca` is PEM of the authorities to trust, instead of the system's.
 * Throws `config` for an unreadable URL, refused credentials and a certificate that is not trusted, `store` when there is no answer.
 */
export async function redisConnection(url: string, ca?: string): Promise<RedisConnection> {
  const place = redisPlace(url);
  const main = openLane(clientFor(place, ca));
  const { client, ask } = main;
  let large: Lane | undefined;
  const subscribers: (Redis | Cluster)[] = [];

  /** Made with its first use. */
  const largeLane = () => {
    if (large !== undefined) return large;
    large = openLane(clientFor(place, ca));
    large.client.connect().catch(() => undefined);
    return large;
  };

  /** Told once to every server; many uses of a script may begin at the same time. */
  const scripts = new Map<string, Promise<unknown>>();
  const loaded = ({ sha, source }: RedisScript): Promise<unknown> => {
    const known = scripts.get(sha);
    if (known !== undefined) return known;
    const loading = connection.everywhere("script", ["load", source]);
    scripts.set(sha, loading);
    loading.catch(() => scripts.delete(sha));
    return loading;
  };

  const connection: RedisConnection = {
    shown: place.shown,
    send: (command, args, ms = COMMAND_MS) => {
      const lane = args.some(isLarge) ? largeLane() : main;
      return lane.ask(command, ms, () => lane.client.call(command, ...args));
    },
    sendForBytes: (command, args, ms = COMMAND_MS) => {
      const lane = largeLane();
      return lane.ask(command, ms, () => lane.client.callBuffer(command, ...args));
    },
    async run(script, key, args, ms = COMMAND_MS) {
      await loaded(script);
      return ask("a script", ms, () =>
        client.call("evalsha", script.sha, 1, key, ...args).catch((error: unknown) => {
          // A server that is new since: after a fail-over, or in a cluster that has grown.
          if (!(error instanceof Error) || !error.message.includes("NOSCRIPT")) throw error;
          return client.call("eval", script.source, 1, key, ...args);
        }),
      );
    },
    everywhere: (command, args) => {
      const nodes = client instanceof Cluster ? client.nodes("master") : [client];
      return Promise.all(nodes.map((node) => ask(command, COMMAND_MS, () => node.call(command, ...args))));
    },
    async subscribe(channel, heard) {
      const subscriber = clientFor(place, ca);
      subscribers.push(subscriber);
      subscriber.on("error", () => undefined);
      subscriber.on("message", (_channel: string, message: string) => heard(message));
      const subscribed = subscriber.connect().then(() => subscriber.subscribe(channel));
      await within(COMMAND_MS, "Redis (subscribe)", subscribed).catch((error: unknown) => {
        throw asStoreProblem(error);
      });
      if (subscriber instanceof Redis) subscribeAgain(subscriber, channel);
    },
    async close() {
      for (const lane of [main, large]) lane?.close();
      for (const subscriber of subscribers) subscriber.disconnect();
    },
  };
  try {
    await Promise.race([refusal(client), connection.send("ping", [], 2 * COMMAND_MS)]);
  } catch (error) {
    await connection.close();
    throw error;
  }
  return connection;
}

/**
 * Subscribes on every new connection. The library's own way leaves a break at that moment unhandled, which ends the process, and
 * does not subscribe on the connection after it. For a cluster it has another way, which does.
 */
function subscribeAgain(subscriber: Redis, channel: string): void {
  subscriber.on("ready", () => {
    subscriber.subscribe(channel).catch(() => {
      if (subscriber.status === "ready") subscriber.disconnect(true);
    });
  });
}

/** A renewal of this node's session must not wait behind a message of 60 MB. */
const LARGE_BYTES = 65_536;

function isLarge(argument: RedisArgument): boolean {
  return typeof argument === "object" && argument.length > LARGE_BYTES;
}

type Lane = {
  client: Redis | Cluster;
  /** Does `work` with the client once it is connected, all within `ms`. */
  ask(what: string, ms: number, work: () => Promise<unknown>): Promise<unknown>;
  close(): void;
};

function openLane(client: Redis | Cluster): Lane {
  let lastError: Error | undefined;
  client.on("error", (error: Error) => {
    lastError = error;
  });
  const ready = readiness(client);
  let underWay = 0;
  let closed = false;
  return {
    client,
    async ask(what, ms, work) {
      if (closed) throw new Problem("store", "The connection to Redis was closed");
      if (underWay >= AT_ONCE) throw new Problem("store", `Redis does not keep up: ${AT_ONCE} commands wait for it`);
      underWay += 1;
      try {
        const until = performance.now() + ms;
        if (client.status !== "ready") await within(ms, "The connection to Redis", ready());
        return await within(Math.max(1, until - performance.now()), `Redis (${what})`, work());
      } catch (error) {
        throw asStoreProblem(error, client.status === "ready" ? undefined : lastError);
      } finally {
        underWay -= 1;
      }
    },
    close() {
      closed = true;
      client.disconnect();
    },
  };
}

/** Connects, and rejects when the server wants other credentials or is not trusted: waiting would not help. Else it stays pending. */
function refusal(client: Redis | Cluster): Promise<never> {
  return new Promise((_resolve, reject) => {
    client.on("error", (error: Error) => {
      const why = CREDENTIALS.test(error.message)
        ? "Redis does not accept the user and password of REDIS_URL"
        : isUntrusted(error) && "The certificate of Redis is not trusted (REDIS_CA says who signs it)";
      if (why) reject(new Problem("config", `${why}: ${error.message}`, { retry: "never" }));
    });
    // What else goes wrong is told by the error event, and tried again by the client itself.
    client.connect().catch(() => undefined);
  });
}

const CREDENTIALS = /WRONGPASS|NOAUTH|invalid password|without any password configured/i;

function clientFor(place: RedisPlace, ca: string | undefined): Redis | Cluster {
  const [first] = place.hosts;
  const tls = place.tls && { ...(ca !== undefined && { ca }), ...(!isIP(first.host) && { servername: first.host }) };
  const options = {
    // The older protocol: its replies are the same from every version of the server.
    protocol: 2,
    lazyConnect: true,
    connectTimeout: COMMAND_MS,
    socketTimeout: SILENT_MS,
    keepAlive: 10_000,
    // Waiting for a connection is bounded by `guarded`; a command that failed must not be sent behind its caller's back later.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (times: number) => jittered(Math.min(50 * 2 ** Math.min(times, 6), 2_000)),
    reconnectOnError: (error: Error) => error.message.startsWith("READONLY"),
    ...(place.user !== undefined && { username: place.user }),
    ...(place.password && { password: place.password.reveal() }),
    ...(tls && { tls }),
  } satisfies RedisOptions;
  if (place.kind === "cluster") {
    const { enableOfflineQueue, retryStrategy: _, lazyConnect, ...redisOptions } = options;
    return new Cluster(place.hosts, {
      lazyConnect,
      enableOfflineQueue,
      clusterRetryStrategy: options.retryStrategy,
      redisOptions,
    });
  }
  if (place.kind === "sentinel") {
    // Without the detector, writes went to a demoted master for seconds and were lost without an error.
    const { master: name, db } = place;
    return new Redis({
      ...options,
      sentinels: place.hosts,
      name,
      db,
      ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: tls }),
      failoverDetector: true,
    });
  }
  return new Redis({ ...options, ...first, db: place.db });
}

/** One promise for all who wait for the same connection. */
function readiness(client: Redis | Cluster): () => Promise<void> {
  let next = Promise.withResolvers<void>();
  client.on("ready", () => {
    next.resolve();
    next = Promise.withResolvers<void>();
  });
  return () => next.promise;
}

function asStoreProblem(error: unknown, underlying?: Error): Problem {
  if (error instanceof Problem && error.code === "store") return error;
  const told = error instanceof Error ? error.message : String(error);
  const text = told.includes("max retries per request") ? "the connection broke before it answered" : told;
  const why = underlying === undefined || underlying.message === "" ? "" : ` (${underlying.message})`;
  return new Problem("store", `Redis cannot be used now: ${text}${why}`, { cause: error });
}
