/**
 * HTTP connections to one server, for those who may share them. Each is opened through the login rate limiter and the egress guard,
 * and secured by TLS. One request at a time uses it, and it is kept for half a minute for the next one.
 */
import { Agent } from "node:http";
import type { Socket } from "node:net";
import { semaphore } from "../../concurrency/semaphore.ts";
import type { TlsFacts } from "../../contract/learned.ts";
import type { Egress } from "../../egress.ts";
import { withLoginRate, type LoginRateDeps } from "../net/login-rate.ts";
import { readTls } from "../net/server-facts.ts";
import { upgradeToTls, type TlsTrust } from "../net/tls.ts";

export type ConnectionPoolDeps = LoginRateDeps & { egress: Egress; timeouts: { command: number } };
/** Where connections go, and which certificates to trust there. */
export type ServerTarget = TlsTrust & { port: number; secure: boolean };

/**
 * How a connection is used. `short` requests share a few connections. `flow` requests (downloads, read at
 * the reader's speed) share others. `fresh` always gets a new connection, which is closed afterwards.
 */
export type ConnectionUse = "short" | "flow" | "fresh";

/**
 * A connection. NTLM authenticates a connection, not a request. `used`: the server may have closed it since its last
 * request.
 */
export type Connection = { readonly agent: Agent; readonly socket: Socket; used: boolean; authenticated: boolean };

/** A connection that one request holds. */
export interface ConnectionLease {
  readonly connection: Connection;
  /** Call it when the answer has ended; false closes the connection. A second call does nothing. */
  release(again: boolean): void;
}

export type Scheme = "basic" | "ntlm";

export interface ConnectionPool {
  /** The authentication scheme that the server wants for a password, if it is known. */
  scheme: Scheme | undefined;
  /** TLS of the newest connection; null without TLS, and before the first connection. */
  readonly tls: TlsFacts | null;
  acquire(use: ConnectionUse, signal: AbortSignal): Promise<ConnectionLease>;
  close(): void;
}

/** Requests of one login at once, short ones and downloads. Others wait. Exchange allows 27 (EWSMaxConcurrency). */
const MAX_REQUESTS = { short: 8, flow: 12, fresh: Infinity };
const MAX_IDLE = 8;
export type PoolLimits = { requests: Record<ConnectionUse, number>; idle: number };
/** Shorter than the two minutes after which IIS closes an idle connection. */
const IDLE_MS = 30_000;
const KEEP_ALIVE_MS = 60_000;

type PooledConnection = Connection & { idle: NodeJS.Timeout | undefined };

/** The connections to a target. None is opened before the first use. */
export function connectionPool(
  deps: ConnectionPoolDeps,
  target: ServerTarget,
  limits: PoolLimits = { requests: MAX_REQUESTS, idle: MAX_IDLE },
): ConnectionPool {
  const idleConnections: PooledConnection[] = [];
  const semaphores = {
    short: semaphore(limits.requests.short),
    flow: semaphore(limits.requests.flow),
    fresh: semaphore(limits.requests.fresh),
  };
  const openConnections = new Set<PooledConnection>();
  let tls: TlsFacts | null = null;

  async function openConnection(signal: AbortSignal): Promise<PooledConnection> {
    const socket = await dial(deps, target, signal);
    tls = readTls(socket);
    const connection: PooledConnection = {
      agent: singleSocketAgent(socket),
      socket,
      used: false,
      authenticated: false,
      idle: undefined,
    };
    openConnections.add(connection);
    socket.once("close", () => {
      openConnections.delete(connection);
      removeIdle(idleConnections, connection);
    });
    return connection;
  }

  function retain(connection: PooledConnection): void {
    if (connection.socket.destroyed || idleConnections.length >= limits.idle) return closeConnection(connection);
    connection.idle = setTimeout(() => closeConnection(connection), IDLE_MS).unref();
    idleConnections.push(connection);
  }

  return {
    scheme: undefined,
    get tls() {
      return tls;
    },
    async acquire(use, signal) {
      const permit = await semaphores[use].acquire({}, signal);
      try {
        const reused = use === "fresh" ? undefined : takeIdle(idleConnections);
        const connection = reused ?? (await openConnection(signal));
        return leaseConnection(connection, (reusable) => {
          permit.release();
          if (reusable && use !== "fresh") retain(connection);
          else closeConnection(connection);
        });
      } catch (error) {
        permit.release();
        throw error;
      }
    },
    close() {
      for (const connection of openConnections) closeConnection(connection);
    },
  };
}

/** The connection that was used last, if it is still open. */
function takeIdle(idleConnections: PooledConnection[]): PooledConnection | undefined {
  for (let connection = idleConnections.pop(); connection; connection = idleConnections.pop()) {
    clearTimeout(connection.idle);
    if (!connection.socket.destroyed) return connection;
  }
  return undefined;
}

function leaseConnection(connection: Connection, onRelease: (reusable: boolean) => void): ConnectionLease {
  let released = false;
  const release = (reusable: boolean) => {
    if (!released) onRelease(reusable);
    released = true;
  };
  return { connection, release };
}

function closeConnection(connection: PooledConnection): void {
  clearTimeout(connection.idle);
  connection.agent.destroy();
  connection.socket.destroy();
}

function removeIdle(idleConnections: PooledConnection[], connection: PooledConnection): void {
  clearTimeout(connection.idle);
  const at = idleConnections.indexOf(connection);
  if (at >= 0) idleConnections.splice(at, 1);
}

function dial(deps: ConnectionPoolDeps, target: ServerTarget, signal: AbortSignal): Promise<Socket> {
  return withLoginRate(deps, target.host, () => connect(deps, target, signal), signal);
}

async function connect(deps: ConnectionPoolDeps, target: ServerTarget, signal: AbortSignal): Promise<Socket> {
  const timeoutMs = deps.timeouts.command;
  const raw = await deps.egress.connect({ host: target.host, port: target.port, timeoutMs }, signal);
  // Without a listener, an error on an idle connection would end the process.
  raw.on("error", () => undefined);
  raw.setKeepAlive(true, KEEP_ALIVE_MS);
  raw.setNoDelay(true);
  if (!target.secure) return raw;
  const socket = await upgradeToTls(raw, target, timeoutMs, signal);
  socket.on("error", () => undefined);
  return socket;
}

/** An agent that has only this one connection. */
function singleSocketAgent(socket: Socket): Agent {
  const agent = new Agent({ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxSockets: 1, maxFreeSockets: 1 });
  agent.createConnection = () => socket;
  return agent;
}
