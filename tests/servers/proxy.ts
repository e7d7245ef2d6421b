/**
 * A TCP proxy that breaks connections the way networks do: late, slow, cut, reset, refused, or silently dead. The
 * faults are switched while it runs, for new connections and for those that are open.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { listenOn } from "./ports.ts";

/** What is wrong with the line; each of them alone or several together. */
export type Toxics = {
  /** Every byte arrives so much later, in both directions. */
  latencyMs?: number;
  /** So few bytes pass, in each direction. */
  bytesPerSecond?: number;
  /**
   * Swallows all bytes and the ends of connections, while the sockets stay open: half-open, as behind a firewall that
   * forgot them. A connection that lost a byte stays lost after the toxic is gone.
   */
  blackhole?: boolean;
  /** Closes a connection after the server has sent so many more bytes to it. */
  truncateAfter?: number;
  /** Answers every connection, open or new, with a reset (RST). */
  reset?: boolean;
  /** Listens no more, so that new connections are refused; open ones go on. */
  refuse?: boolean;
};

export type Proxy = {
  host: string;
  port: number;
  /** How many connections of clients are open now. */
  readonly connections: number;
  /** How many there have ever been. */
  readonly accepted: number;
  /** Puts these in place of all earlier toxics; resolves once they work. `set({})` heals the line. */
  set(toxics: Toxics): Promise<void>;
  /** Resets (RST) the connections that are open now, once. */
  resetAll(): void;
  stop(): Promise<void>;
};

/** Starts a proxy on a free port of 127.0.0.1 to a target, which need not listen yet. */
export async function startProxy(target: { host?: string; port: number }): Promise<Proxy> {
  const lines = new Set<Line>();
  let accepted = 0;
  let toxics: Toxics = {};
  let server: Server | undefined;
  const listen = (port: number): Promise<number> => {
    const opened = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (client) => {
      accepted++;
      const line = new Line(client, target, () => toxics);
      lines.add(line);
      void line.closed.then(() => lines.delete(line));
    });
    server = opened;
    return listenOn(opened, port);
  };
  const resetAll = (): void => {
    for (const line of lines) line.reset();
  };
  const proxy: Proxy = {
    host: "127.0.0.1",
    port: await listen(0),
    get connections() {
      return lines.size;
    },
    get accepted() {
      return accepted;
    },
    set: async (wanted) => {
      toxics = wanted;
      for (const line of lines) line.changed();
      if (toxics.reset) resetAll();
      if (toxics.refuse && server) {
        // Its callback would wait for the open connections; the port is free at once.
        server.close();
        server = undefined;
      } else if (!toxics.refuse && !server) await listen(proxy.port);
    },
    resetAll,
    stop: async () => {
      server?.close();
      server = undefined;
      for (const line of lines) line.destroy();
      await Promise.all([...lines].map((line) => line.closed));
    },
  };
  return proxy;
}

class Line {
  readonly closed: Promise<void>;
  readonly #client: Socket;
  readonly #server: Socket;
  readonly #toxics: () => Toxics;
  #lost = false;
  #left = Infinity;

  constructor(client: Socket, target: { host?: string; port: number }, toxics: () => Toxics) {
    this.#client = client;
    this.#toxics = toxics;
    this.closed = new Promise((resolve) => client.once("close", () => resolve()));
    this.#server = connect({ host: target.host ?? "127.0.0.1", port: target.port, allowHalfOpen: true });
    this.changed();
    for (const socket of [this.#client, this.#server]) socket.setNoDelay(true).on("error", () => socket.destroy());
    this.#carry(this.#client, this.#server, false);
    this.#carry(this.#server, this.#client, true);
    this.#client.resume();
    if (toxics().reset) this.reset();
  }

  /** Takes notice of new toxics. */
  changed(): void {
    this.#left = this.#toxics().truncateAfter ?? Infinity;
  }

  reset(): void {
    this.#client.resetAndDestroy();
    this.#server.destroy();
  }

  destroy(): void {
    this.#client.destroy();
    this.#server.destroy();
  }

  // Hands everything on in order: what comes waits its turn in a queue of promises.
  #carry(from: Socket, to: Socket, counted: boolean): void {
    let turn: Promise<void> = Promise.resolve();
    let waiting = 0;
    from.on("data", (chunk: Buffer) => {
      const arrived = performance.now();
      waiting += chunk.length;
      if (waiting > 1024 * 1024) from.pause();
      turn = after(turn, async () => {
        await this.#late(arrived);
        await this.#write(to, counted ? this.#counted(chunk) : chunk);
        waiting -= chunk.length;
        if (waiting < 512 * 1024) from.resume();
      });
    });
    from.on("end", () => {
      const arrived = performance.now();
      turn = after(turn, async () => {
        await this.#late(arrived);
        if (!this.#swallows()) to.end();
      });
    });
    from.on("close", () => {
      turn = after(turn, async () => {
        if (!this.#swallows()) to.destroySoon();
      });
    });
  }

  async #late(arrived: number): Promise<void> {
    const left = arrived + (this.#toxics().latencyMs ?? 0) - performance.now();
    if (left > 0) await sleep(left);
  }

  async #write(to: Socket, chunk: Buffer): Promise<void> {
    let rest = chunk;
    while (rest.length > 0) {
      if (this.#swallows() || to.destroyed) return;
      const pace = this.#toxics().bytesPerSecond;
      const size = pace === undefined ? rest.length : Math.max(1, Math.ceil(pace / 20));
      const taken = to.write(rest.subarray(0, size));
      rest = rest.subarray(size);
      if (pace !== undefined) await sleep((size / pace) * 1000);
      else if (!taken) await drained(to);
    }
    if (this.#left <= 0) this.destroySoon();
  }

  destroySoon(): void {
    this.#client.destroySoon();
    this.#server.destroy();
  }

  #counted(chunk: Buffer): Buffer {
    const allowed = chunk.subarray(0, this.#left);
    this.#left -= allowed.length;
    return allowed;
  }

  #swallows(): boolean {
    this.#lost ||= this.#toxics().blackhole ?? false;
    return this.#lost;
  }
}

async function after(previous: Promise<void>, work: () => Promise<void>): Promise<void> {
  await previous;
  await work();
}

function drained(socket: Socket): Promise<void> {
  return new Promise((resolve) => {
    socket.once("drain", resolve);
    socket.once("close", () => resolve());
  });
}
