/** Serves a fetch handler on the runtime at hand. Only this file knows the differences between runtimes. */
import { createServer, type Server } from "node:http";
import {
  type AddressInfo,
  createServer as createSocketServer,
  type ListenOptions,
  type Server as SocketServer,
} from "node:net";
import { Problem } from "../../shared/contract/problem.ts";
import { sleep } from "../../shared/time.ts";
import { malformedHeadResponse } from "./request-head.ts";

/** `peer` is the address of the other end of the connection; "" when it is not known. */
export type ConnectionInfo = { peer: string };
export type FetchHandler = (request: Request, caller: ConnectionInfo) => Response | Promise<Response>;
type ListenAddress = { host: string; port: number };

/**
 * A listening server. `close` accepts no new requests, lets requests in flight finish within 5 seconds, and cuts the
 * rest. Deno cannot cut them and leaves them until the process ends.
 */
export type RunningServer = { url: string; port: number; close(): Promise<void> };

const CLOSE_TIMEOUT_MS = 5000;
/** Who sends the head of a request more slowly is cut off. Bun does so after 10 seconds. */
const HEAD_LIMITS = { headersTimeout: 15_000, connectionsCheckingInterval: 5_000 };
/** Longer than proxies keep a connection (nginx: 60 s). A proxy that used one that Node just closed would answer 502. */
const KEEP_ALIVE_MS = 75_000;

/** 64 connections that come together are accepted in 4 turns; one socket needs 66. */
const LISTENING_SOCKETS = 16;
/** As `node:http` sets them. */
const CONNECTION_OPTIONS = { allowHalfOpen: true, noDelay: true };

/** The part of Deno's API that is used here. Its types are not installed. */
type DenoFetch = (request: Request, info: { remoteAddr: { hostname?: string } }) => Response | Promise<Response>;
type DenoServer = { addr: { port: number }; shutdown(): Promise<void>; finished: Promise<void> };
type DenoOptions = { hostname: string; port: number; signal: AbortSignal; onListen(): void };
declare const Deno: { serve(options: DenoOptions, fetch: DenoFetch): DenoServer } | undefined;

/**
 * Listens on `host` and `port` (0 means any free port). A response may be silent as long as its handler likes. Throws a
 * `config` Problem when it cannot listen on the address.
 */
export async function serve(fetch: FetchHandler, address: ListenAddress): Promise<RunningServer> {
  try {
    const { port, close } = await startServer(fetch, address);
    return { url: urlOf(address.host, port), port, close: once(close) };
  } catch (error) {
    throw listenProblem(error, address);
  }
}

function startServer(handler: FetchHandler, address: ListenAddress): Promise<Omit<RunningServer, "url">> {
  const fetch: FetchHandler = (request, caller) => malformedHeadResponse(request) ?? handler(request, caller);
  if (typeof Bun !== "undefined") return serveOnBun(fetch, address);
  return typeof Deno === "undefined" ? serveOnNode(fetch, address) : serveOnDeno(Deno, fetch, address);
}

async function serveOnBun(fetch: FetchHandler, { host, port }: ListenAddress): Promise<Omit<RunningServer, "url">> {
  const server = Bun.serve({
    hostname: host,
    port,
    async fetch(request, self) {
      // Bun cuts a response that is silent for 10 seconds. Event streams and requests to slow mail servers are silent
      // for longer.
      self.timeout(request, 0);
      const response = await fetch(request, { peer: self.requestIP(request)?.address ?? "" });
      // Bun would keep the connection of somebody who goes on sending a body that nobody reads.
      if (request.body && !request.bodyUsed) response.headers.set("connection", "close");
      return response;
    },
  });
  return {
    port: server.port ?? port,
    close: () => closeWithTimeout(server.stop(), () => server.stop(true)),
  };
}

async function serveOnDeno(
  deno: NonNullable<typeof Deno>,
  fetch: FetchHandler,
  { host, port }: ListenAddress,
): Promise<Omit<RunningServer, "url">> {
  const forceClose = new AbortController();
  const server = deno.serve({ hostname: host, port, signal: forceClose.signal, onListen() {} }, (request, info) =>
    fetch(request, { peer: info.remoteAddr.hostname ?? "" }),
  );
  return { port: server.addr.port, close: () => closeWithTimeout(server.shutdown(), () => forceClose.abort()) };
}

async function serveOnNode(fetch: FetchHandler, address: ListenAddress): Promise<Omit<RunningServer, "url">> {
  const { getRequestListener } = await import("@hono/node-server");
  const listener = getRequestListener(
    (request, { incoming }) => fetch(request, { peer: incoming.socket?.remoteAddress ?? "" }),
    { overrideGlobalObjects: false },
  );
  const server = createServer({ ...HEAD_LIMITS, keepAliveTimeout: KEEP_ALIVE_MS }, (incoming, outgoing) => {
    if (countHosts(incoming.rawHeaders) <= 1) return void listener(incoming, outgoing);
    outgoing.writeHead(400, { connection: "close" }).end();
  });
  const { port, others } = await listenOnNode(server, address);
  const servers = [server, ...others];
  return { port, close: () => closeWithTimeout(drainAndClose(server, servers), () => server.closeAllConnections()) };
}

/** Node shows only the first of several. */
function countHosts(rawHeaders: readonly string[]): number {
  return rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === "host").length;
}

/**
 * Node accepts one connection in each turn of its event loop. In a busy process a turn takes up to half a second: a health check behind
 * fifty other clients would wait for half a minute. So several sockets listen on the port, and each accepts one in a turn. `others` give
 * theirs to `server`.
 */
async function listenOnNode(server: Server, address: ListenAddress): Promise<{ port: number; others: SocketServer[] }> {
  if (process.platform !== "linux") return { port: (await listen(server, address)).port, others: [] };
  // A port with several sockets is open to every program of this user that asks for the same. So a socket that shares its port with
  // nobody finds out first whether the port is free.
  if (address.port !== 0) {
    const alone = createSocketServer();
    await listen(alone, address);
    await closed(alone);
  }
  const { address: host, port } = await listen(server, address, { reusePort: true });
  const others: SocketServer[] = [];
  for (let n = 1; n < LISTENING_SOCKETS; n++) {
    const other = createSocketServer(CONNECTION_OPTIONS, (socket) => void server.emit("connection", socket));
    await listen(other, { host, port }, { reusePort: true });
    others.push(other);
  }
  return { port, others };
}

function listen(server: SocketServer, address: ListenAddress, options: ListenOptions = {}): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ ...address, ...options }, () => resolve(server.address() as AddressInfo));
  });
}

const closed = (server: SocketServer) => new Promise((resolve) => server.close(resolve));

/** Node's own close waits for idle keep-alive connections, also for those that become idle after their last answer. */
async function drainAndClose(server: Server, servers: SocketServer[]): Promise<void> {
  const closing = new AbortController();
  void Promise.all(servers.map(closed)).then(() => closing.abort());
  do server.closeIdleConnections();
  while (await sleep(50, closing.signal));
}

async function closeWithTimeout(graceful: Promise<unknown>, forceClose: () => unknown): Promise<void> {
  const done = new AbortController();
  const finished = graceful.finally(() => done.abort());
  if (await sleep(CLOSE_TIMEOUT_MS, done.signal)) await forceClose();
  else await finished;
}

/** A second call returns the first call's result. */
function once(close: () => Promise<void>): () => Promise<void> {
  let closing: Promise<void> | undefined;
  return () => (closing ??= close());
}

function urlOf(host: string, port: number): string {
  const name = host === "0.0.0.0" || host === "::" ? "localhost" : host.includes(":") ? `[${host}]` : host;
  return `http://${name}:${port}`;
}

const LISTEN_ERRORS: Record<string, string> = {
  EADDRINUSE: "is in use by another program; choose another PORT or stop that program",
  EACCES: "needs a privilege that this user does not have (ports below 1024)",
  EADDRNOTAVAIL: "is not an address of this machine; change HOST",
  ENOTFOUND: "is not an address of this machine; change HOST",
};

function listenProblem(error: unknown, { host, port }: ListenAddress): Problem {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const why =
    LISTEN_ERRORS[code] ?? `cannot be listened on (${error instanceof Error ? error.message : String(error)})`;
  return new Problem("config", `${host}:${port} ${why}.`, { retry: "never", cause: error });
}
