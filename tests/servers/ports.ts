/**
 * Ports for servers that come and go. They are taken from below the range the kernel takes for outgoing connections
 * (32768 and up on Linux): there, a client that tries a stopped server's port could get that very port as its own.
 */
import { createServer, type Server } from "node:net";
import { BACKEND_PORTS } from "../../shared/egress/own-servers.ts";

const FIRST = 12_000;
const LAST = 32_000;
const TRIES = 100;

/** Listens on this port, or on a free one if it is 0; resolves with the port. */
export async function listenOn(server: Server, port: number, host = "127.0.0.1"): Promise<number> {
  if (port !== 0) return listen(server, port, host);
  for (let tries = 0; tries < TRIES; tries++) {
    const found = await listen(server, somePort(), host).catch(() => 0);
    if (found !== 0) return found;
  }
  throw new Error(`No free port between ${FIRST} and ${LAST}`);
}

/** Finds so many ports of 127.0.0.1 that nobody listens on. */
export async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  const ports: number[] = [];
  for (const server of servers) ports.push(await listenOn(server, 0));
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Finds a port that nobody listens on, at or above `from`, with free ones at all these distances from it as well. */
export async function freeRow(from: number, to: number, distances: number[]): Promise<number> {
  for (let tries = 0; tries < TRIES; tries++) {
    const first = from + Math.floor(Math.random() * (to - from));
    const servers = distances.map(() => createServer());
    const found = await Promise.allSettled(
      servers.map((server, n) => listen(server, first + (distances[n] ?? 0), "127.0.0.1")),
    );
    const listening = servers.filter((server) => server.listening);
    await Promise.all(listening.map((server) => new Promise((resolve) => server.close(resolve))));
    if (found.every(({ status }) => status === "fulfilled")) return first;
  }
  throw new Error(`No free row of ports between ${from} and ${to}`);
}

/** A port that the service may send to: it refuses those of its own servers on whatever host. */
function somePort(): number {
  const port = FIRST + Math.floor(Math.random() * (LAST - FIRST));
  return BACKEND_PORTS.includes(port) ? somePort() : port;
}

function listen(server: Server, port: number, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void => reject(error);
    server.once("error", failed);
    server.listen({ port, host, backlog: 4096 }, () => {
      server.off("error", failed);
      resolve(port);
    });
  });
}
