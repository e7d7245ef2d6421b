/** A line to a server that holds back what clients send after so many bytes, so that a test can act while a request is half-way. */
import { connect, createServer, type Socket } from "node:net";
import { listenOn } from "./ports.ts";

export type Sluice = {
  port: number;
  /** Lets so many more bytes of clients through, all connections together, and then none. */
  close(after: number): void;
  /** Lets through what was held back, and whatever comes. */
  open(): void;
  /** Resolves once something is held back. */
  full(): Promise<void>;
  /** Cuts all connections. */
  cut(): void;
  stop(): Promise<void>;
};

/** Starts the line on a free port of 127.0.0.1. */
export async function startSluice(target: number): Promise<Sluice> {
  let left = Number.POSITIVE_INFINITY;
  let held: (() => void)[] = [];
  let filled = Promise.withResolvers<void>();
  const sockets = new Set<Socket>();
  const server = createServer((client) => {
    const upstream = connect(target, "127.0.0.1");
    for (const [one, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(one);
      one.on("error", () => undefined);
      one.on("close", () => {
        sockets.delete(one);
        other.destroy();
      });
    }
    upstream.on("data", (bytes) => client.write(bytes));
    client.on("data", (bytes) => {
      if (bytes.length <= left) {
        left -= bytes.length;
        upstream.write(bytes);
        return;
      }
      held.push(() => void (upstream.destroyed || upstream.write(bytes)));
      client.pause();
      held.push(() => void client.resume());
      left = 0;
      filled.resolve();
    });
  });
  const port = await listenOn(server, 0);
  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port,
    close(after) {
      left = after;
      filled = Promise.withResolvers<void>();
    },
    open() {
      left = Number.POSITIVE_INFINITY;
      for (const go of held.splice(0)) go();
      held = [];
    },
    full: () => filled.promise,
    cut,
    async stop() {
      const stopped = new Promise((resolve) => server.close(resolve));
      cut();
      await stopped;
    },
  };
}
