/** Serves a fetch handler on whichever runtime this is: the one file that knows their differences. */
import { createServer, type Server } from "node:http";
import { Problem } from "../../shared/contract/problem.ts";
import { slept } from "../../shared/time.ts";

/** `peer` is the address of the other end of the connection, "" when it cannot be told. */
export type Caller = { peer: string };
export type Fetch = (request: Request, caller: Caller) => Response | Promise<Response>;
type Where = { host: string; port: number };

/**
 * A listening server. `close` takes no new requests, lets those in flight finish within 5 seconds, and cuts the rest; Deno cannot cut
 * them and leaves them to the end of the process.
 */
export type Served = { url: string; port: number; close(): Promise<void> };

const CLOSE_MS = 5000;

/** The part of Deno's API used here; its types are not installed. */
type DenoFetch = (request: Request, info: { remoteAddr: { hostname?: string } }) => Response | Promise<Response>;
type DenoServer = { addr: { port: number }; shutdown(): Promise<void>; finished: Promise<void> };
type DenoOptions = { hostname: string; port: number; signal: AbortSignal; onListen(): void };
declare const Deno: { serve(options: DenoOptions, fetch: DenoFetch): DenoServer } | undefined;

/**
 * Listens on `host` and `port` (0 takes a free one). A response may be silent as long as its handler likes. Throws a `config`
 * Problem when the address cannot be had.
 */
export async function serve(fetch: Fetch, where: Where): Promise<Served> {
  try {
    const { port, close } = await start(fetch, where);
    return { url: urlOf(where.host, port), port, close: once(close) };
  } catch (error) {
    throw unlistenable(error, where);
  }
}

function start(fetch: Fetch, where: Where): Promise<Omit<Served, "url">> {
  if (typeof Bun !== "undefined") return onBun(fetch, where);
  return typeof Deno === "undefined" ? onNode(fetch, where) : onDeno(Deno, fetch, where);
}

async function onBun(fetch: Fetch, { host, port }: Where): Promise<Omit<Served, "url">> {
  const server = Bun.serve({
    hostname: host,
    port,
    fetch(request, self) {
      // Bun cuts a response that is silent for 10 seconds, which event streams and visits to slow mail servers are.
      self.timeout(request, 0);
      return fetch(request, { peer: self.requestIP(request)?.address ?? "" });
    },
  });
  return {
    port: server.port ?? port,
    close: () => capped(server.stop(), () => server.stop(true)),
  };
}

async function onDeno(
  deno: NonNullable<typeof Deno>,
  fetch: Fetch,
  { host, port }: Where,
): Promise<Omit<Served, "url">> {
  const cut = new AbortController();
  const server = deno.serve({ hostname: host, port, signal: cut.signal, onListen() {} }, (request, info) =>
    fetch(request, { peer: info.remoteAddr.hostname ?? "" }),
  );
  return { port: server.addr.port, close: () => capped(server.shutdown(), () => cut.abort()) };
}

async function onNode(fetch: Fetch, { host, port }: Where): Promise<Omit<Served, "url">> {
  const { getRequestListener } = await import("@hono/node-server");
  const listener = getRequestListener(
    (request, { incoming }) => fetch(request, { peer: incoming.socket?.remoteAddress ?? "" }),
    { overrideGlobalObjects: false },
  );
  const server = createServer((incoming, outgoing) => void listener(incoming, outgoing));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, host, resolve);
  });
  const address = server.address();
  return {
    port: typeof address === "object" && address !== null ? address.port : port,
    close: () => capped(drained(server), () => server.closeAllConnections()),
  };
}

/** Node's own close waits for idle keep-alive connections, those that become idle after their last answer included. */
async function drained(server: Server): Promise<void> {
  const closed = new AbortController();
  server.close(() => closed.abort());
  do server.closeIdleConnections();
  while (await slept(50, closed.signal));
}

async function capped(graceful: Promise<unknown>, cut: () => unknown): Promise<void> {
  const done = new AbortController();
  const finished = graceful.finally(() => done.abort());
  if (await slept(CLOSE_MS, done.signal)) await cut();
  else await finished;
}

/** Closing twice is closing once. */
function once(close: () => Promise<void>): () => Promise<void> {
  let closing: Promise<void> | undefined;
  return () => (closing ??= close());
}

function urlOf(host: string, port: number): string {
  const name = host === "0.0.0.0" || host === "::" ? "localhost" : host.includes(":") ? `[${host}]` : host;
  return `http://${name}:${port}`;
}

const WHY: Record<string, string> = {
  EADDRINUSE: "is in use by another program; choose another PORT or stop that program",
  EACCES: "may not be used by this user; ports below 1024 need a privilege",
  EADDRNOTAVAIL: "is not an address of this machine; change HOST",
  ENOTFOUND: "is not an address of this machine; change HOST",
};

function unlistenable(error: unknown, { host, port }: Where): Problem {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  const why = WHY[code] ?? `cannot be listened on (${error instanceof Error ? error.message : String(error)})`;
  return new Problem("config", `${host}:${port} ${why}.`, { retry: "never", cause: error });
}
