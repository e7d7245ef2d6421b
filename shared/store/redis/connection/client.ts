/**
 * The connection to Redis. Commands and scripts have deadlines, waiting for a lost connection is bounded, and errors
 * become Problems.
 */
import { isIP } from "node:net";
import { Cluster, Redis, type RedisOptions } from "ioredis";
import { isCertificateError, Problem } from "../../../contract/problem.ts";
import { jitter, withTimeout } from "../../../time.ts";
import type { RedisScript } from "./script.ts";
import { type RedisUrl, parseRedisUrl } from "./url.ts";

export type RedisArgument = string | number | Buffer;

export interface RedisConnection {
  /** The address of the server, without credentials. */
  readonly displayUrl: string;
  /** Sends one command. Throws `store` (retry later) when no answer comes within `ms` (5 s by default). */
  send(command: string, args: RedisArgument[], ms?: number): Promise<unknown>;
  /** The same, with texts as bytes. Large values use their own connection, so they delay nothing else. */
  sendForBytes(command: string, args: RedisArgument[], ms?: number): Promise<unknown>;
  /** Runs a script in one step. A script may have run although its answer was lost. */
  run(script: RedisScript, key: string, args: RedisArgument[], ms?: number): Promise<unknown>;
  /** Sends a command to every node that holds data: each master of a cluster, or the only server. */
  sendToAllNodes(command: string, args: string[]): Promise<unknown[]>;
  /** Calls `onMessage` for each message on the channel until the connection is closed. It uses its own connection. */
  subscribe(channel: string, onMessage: (message: string) => void): Promise<void>;
  close(): Promise<void>;
}

/** How long a command may take. A server that hangs must not hang the service. */
const COMMAND_TIMEOUT_MS = 5_000;
/**
 * Commands that are running or waiting for the connection. Above this number the next one is refused at once, so that
 * memory stays bounded.
 */
const MAX_PENDING = 20_000;
/** If no byte arrives for this long while an answer is outstanding, the client reconnects. */
const SOCKET_TIMEOUT_MS = 15_000;

/**
 * Connects to the server, to the master that the Sentinels name, or to the cluster. It reconnects after every loss and
 * after a fail-over (a demoted master answers READONLY; it waits for a server that answers LOADING). Commands that were
 * running when the connection broke fail, and are never sent again by the client. `ca` is PEM of the certificate
 * authorities to trust, instead of the system's. Throws `config` for an unreadable URL, refused credentials and an
 * untrusted certificate, and `store` when there is no answer.
 */
export async function redisConnection(url: string, ca?: string): Promise<RedisConnection> {
  const target = parseRedisUrl(url);
  const main = boundedClient(createClient(target, ca));
  const { client, execute } = main;
  let largeClient: BoundedClient | undefined;
  const subscribers: (Redis | Cluster)[] = [];

  /** Created at its first use. */
  const getLargeClient = () => {
    if (largeClient !== undefined) return largeClient;
    largeClient = boundedClient(createClient(target, ca));
    largeClient.client.connect().catch(() => undefined);
    return largeClient;
  };

  /** Each script is loaded once on every server. Many callers may begin at the same time. */
  const scripts = new Map<string, Promise<unknown>>();
  const loadScript = ({ sha, source }: RedisScript): Promise<unknown> => {
    const cached = scripts.get(sha);
    if (cached !== undefined) return cached;
    const loading = connection.sendToAllNodes("script", ["load", source]);
    scripts.set(sha, loading);
    loading.catch(() => scripts.delete(sha));
    return loading;
  };

  const connection: RedisConnection = {
    displayUrl: target.displayUrl,
    send: (command, args, ms = COMMAND_TIMEOUT_MS) => {
      const via = args.some(isLarge) ? getLargeClient() : main;
      return via.execute(command, ms, () => via.client.call(command, ...args));
    },
    sendForBytes: (command, args, ms = COMMAND_TIMEOUT_MS) => {
      const via = getLargeClient();
      return via.execute(command, ms, () => via.client.callBuffer(command, ...args));
    },
    async run(script, key, args, ms = COMMAND_TIMEOUT_MS) {
      await loadScript(script);
      return execute("a script", ms, () =>
        client.call("evalsha", script.sha, 1, key, ...args).catch((error: unknown) => {
          // The server is new: after a fail-over, or because the cluster grew.
          if (!(error instanceof Error) || !error.message.includes("NOSCRIPT")) throw error;
          return client.call("eval", script.source, 1, key, ...args);
        }),
      );
    },
    sendToAllNodes: (command, args) => {
      const nodes = client instanceof Cluster ? client.nodes("master") : [client];
      return Promise.all(nodes.map((node) => execute(command, COMMAND_TIMEOUT_MS, () => node.call(command, ...args))));
    },
    async subscribe(channel, onMessage) {
      const subscriber = createClient(target, ca);
      subscribers.push(subscriber);
      subscriber.on("error", () => undefined);
      subscriber.on("message", (_channel: string, message: string) => onMessage(message));
      const subscribed = subscriber.connect().then(() => subscriber.subscribe(channel));
      await withTimeout(COMMAND_TIMEOUT_MS, "Redis (subscribe)", subscribed).catch((error: unknown) => {
        throw toStoreProblem(error);
      });
      if (subscriber instanceof Redis) resubscribeOnReady(subscriber, channel);
    },
    async close() {
      for (const each of [main, largeClient]) each?.close();
      for (const subscriber of subscribers) subscriber.disconnect();
    },
  };
  try {
    await Promise.race([connectOrReject(client), connection.send("ping", [], 2 * COMMAND_TIMEOUT_MS)]);
  } catch (error) {
    await connection.close();
    throw error;
  }
  return connection;
}

/**
 * Subscribes on every new connection. The library's own resubscription does not handle a connection that breaks at that
 * moment, which would end the process, and does not subscribe on the next connection. For a cluster the library has
 * another mechanism, which works.
 */
function resubscribeOnReady(subscriber: Redis, channel: string): void {
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

type BoundedClient = {
  client: Redis | Cluster;
  /** Calls `work` once the client is connected. All of it must end within `ms`. */
  execute(what: string, ms: number, work: () => Promise<unknown>): Promise<unknown>;
  close(): void;
};

function boundedClient(client: Redis | Cluster): BoundedClient {
  let lastError: Error | undefined;
  client.on("error", (error: Error) => {
    lastError = error;
    // Otherwise the client would go on in database 0.
    if (isDatabaseRefused(error)) client.disconnect(true);
  });
  const ready = readyPromise(client);
  let pending = 0;
  let closed = false;
  return {
    client,
    async execute(what, ms, work) {
      if (closed) throw new Problem("store", "The connection to Redis was closed");
      if (pending >= MAX_PENDING) throw new Problem("store", `Redis is too slow: ${MAX_PENDING} commands wait for it`);
      pending += 1;
      try {
        const until = performance.now() + ms;
        if (client.status !== "ready") await withTimeout(ms, "The connection to Redis", ready());
        return await withTimeout(Math.max(1, until - performance.now()), `Redis (${what})`, work());
      } catch (error) {
        throw toStoreProblem(error, client.status === "ready" ? undefined : lastError);
      } finally {
        pending -= 1;
      }
    },
    close() {
      closed = true;
      client.disconnect();
    },
  };
}

/**
 * Connects. Rejects when the server refuses the credentials or its certificate is not trusted, because waiting would
 * not help. Otherwise it stays pending.
 */
function connectOrReject(client: Redis | Cluster): Promise<never> {
  return new Promise((_resolve, reject) => {
    client.on("error", (error: Error) => {
      const why = CREDENTIAL_ERRORS.test(error.message)
        ? "Redis does not accept the user and password of REDIS_URL"
        : isDatabaseRefused(error)
          ? "Redis does not give the database at the end of REDIS_URL (`databases` in redis.conf says how many there are)"
          : isCertificateError(error) && "The certificate of Redis is not trusted (REDIS_CA says who signs it)";
      if (why) reject(new Problem("config", `${why}: ${error.message}`, { retry: "never" }));
    });
    // Other errors arrive as the error event, and the client retries by itself.
    client.connect().catch(() => undefined);
  });
}

/** Whether Redis refused to select the database, because it has fewer or the user may not. */
function isDatabaseRefused(error: Error): boolean {
  return /DB index is out of range|invalid DB index|NOPERM.*'select'/i.test(error.message);
}

const CREDENTIAL_ERRORS = /WRONGPASS|NOAUTH|invalid password|without any password configured/i;

function createClient(target: RedisUrl, ca: string | undefined): Redis | Cluster {
  const [first] = target.hosts;
  const tls = target.tls && { ...(ca !== undefined && { ca }), ...(!isIP(first.host) && { servername: first.host }) };
  const options = {
    // Protocol 2 gives the same replies for every version of the server.
    protocol: 2,
    lazyConnect: true,
    connectTimeout: COMMAND_TIMEOUT_MS,
    socketTimeout: SOCKET_TIMEOUT_MS,
    keepAlive: 10_000,
    // `execute` bounds the wait for a connection. A command that failed must not be sent later without its caller.
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    retryStrategy: (times: number) => jitter(Math.min(50 * 2 ** Math.min(times, 6), 2_000)),
    reconnectOnError: (error: Error) => error.message.startsWith("READONLY"),
    ...(target.user !== undefined && { username: target.user }),
    ...(target.password && { password: target.password.reveal() }),
    ...(tls && { tls }),
  } satisfies RedisOptions;
  if (target.kind === "cluster") {
    const { enableOfflineQueue, retryStrategy: _, lazyConnect, ...redisOptions } = options;
    return new Cluster(target.hosts, {
      lazyConnect,
      enableOfflineQueue,
      clusterRetryStrategy: options.retryStrategy,
      redisOptions,
    });
  }
  if (target.kind === "sentinel") {
    // Without this detector, writes went to a demoted master for seconds and were lost without an error.
    const { master: name, db } = target;
    return new Redis({
      ...options,
      sentinels: target.hosts,
      name,
      db,
      ...(tls && { enableTLSForSentinelMode: true, sentinelTLS: tls }),
      failoverDetector: true,
    });
  }
  return new Redis({ ...options, ...first, db: target.db });
}

/** One promise for all callers that wait for the same connection. */
function readyPromise(client: Redis | Cluster): () => Promise<void> {
  let next = Promise.withResolvers<void>();
  client.on("ready", () => {
    next.resolve();
    next = Promise.withResolvers<void>();
  });
  return () => next.promise;
}

function toStoreProblem(error: unknown, underlying?: Error): Problem {
  if (error instanceof Problem && error.code === "store") return error;
  const message = error instanceof Error ? error.message : String(error);
  const text = message.includes("max retries per request") ? "the connection broke before it answered" : message;
  const why = underlying === undefined || underlying.message === "" ? "" : ` (${underlying.message})`;
  return new Problem("store", `Redis cannot be used now: ${text}${why}`, { cause: error });
}
