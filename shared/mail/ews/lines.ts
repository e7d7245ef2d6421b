/**
 * Connections to one Exchange server for one account: each opened through the gate and the egress guard, proven by TLS, used by
 * one request at a time, and kept for the next one for half a minute.
 */
import { Agent } from "node:http";
import type { Socket } from "node:net";
import type { Problem } from "../../contract/problem.ts";
import type { Egress } from "../../egress.ts";
import { atPace, type Paced } from "../net/login-rate.ts";
import { secured, type Trust } from "../net/tls.ts";

export type LineDeps = Paced & { egress: Egress; timeouts: { command: number } };
/** Where connections lead, and whom to trust there. */
export type Target = Trust & { port: number; secure: boolean };

/**
 * How a connection is used: `short` shares a few with all of the account, `flow` (a download, read at the reader's pace) shares others,
 * `fresh` has always a new one that is closed afterwards.
 */
export type Use = "short" | "flow" | "fresh";

/** A connection; NTLM logs in a connection, not a request. `used`: the server may have closed it since its last request. */
export type Wire = { readonly agent: Agent; readonly socket: Socket; used: boolean; authenticated: boolean };

/** A connection in the hands of one request. */
export interface Line {
  readonly wire: Wire;
  /** Must be called when the answer is over; false closes the connection. What is said a second time is ignored. */
  release(again: boolean): void;
}

export type Scheme = "basic" | "ntlm";

/** A password that was refused to a mailbox: until then (as performance.now() counts) the account's others need not show it as well. */
export type Refusal = { problem: Problem; until: number; mailbox: string };

export interface Lines {
  /** How the server wants to see a password, as far as that is known. */
  scheme: Scheme | undefined;
  refused: Refusal | undefined;
  /** Settled when the first login was answered, however that ended; the others wait for it, since one refusal is enough. */
  first: Promise<void> | undefined;
  take(use: Use, signal: AbortSignal): Promise<Line>;
  close(): void;
}

/** Requests of one account at once, short ones and downloads; the others wait their turn. Exchange allows 27 (EWSMaxConcurrency). */
const MOST = { short: 8, flow: 12, fresh: Infinity };
const MOST_KEPT = 8;
/** Shorter than the two minutes after which IIS closes an idle connection. */
const KEPT_MS = 30_000;
const KEEP_ALIVE_MS = 60_000;

type Held = Wire & { idle: NodeJS.Timeout | undefined };

/** The connections to a target; none is opened before the first use. */
export function linesTo(deps: LineDeps, target: Target): Lines {
  const kept: Held[] = [];
  const seats = { short: turns(MOST.short), flow: turns(MOST.flow), fresh: turns(MOST.fresh) };
  const open = new Set<Held>();

  async function opened(signal: AbortSignal): Promise<Held> {
    const socket = await dialled(deps, target, signal);
    const wire: Held = { agent: agentOver(socket), socket, used: false, authenticated: false, idle: undefined };
    open.add(wire);
    socket.once("close", () => {
      open.delete(wire);
      forget(kept, wire);
    });
    return wire;
  }

  function keep(wire: Held): void {
    if (wire.socket.destroyed || kept.length >= MOST_KEPT) return end(wire);
    wire.idle = setTimeout(() => end(wire), KEPT_MS).unref();
    kept.push(wire);
  }

  return {
    scheme: undefined,
    refused: undefined,
    first: undefined,
    async take(use, signal) {
      await seats[use].take(signal);
      try {
        const old = use === "fresh" ? undefined : alive(kept);
        const wire = old ?? (await opened(signal));
        return lineOver(wire, (again) => {
          seats[use].give();
          if (again && use !== "fresh") keep(wire);
          else end(wire);
        });
      } catch (error) {
        seats[use].give();
        throw error;
      }
    },
    close() {
      for (const wire of open) end(wire);
    },
  };
}

/** The connection that was used last, if it is still one. */
function alive(kept: Held[]): Held | undefined {
  for (let wire = kept.pop(); wire; wire = kept.pop()) {
    clearTimeout(wire.idle);
    if (!wire.socket.destroyed) return wire;
  }
  return undefined;
}

function lineOver(wire: Wire, over: (again: boolean) => void): Line {
  let released = false;
  const release = (again: boolean) => {
    if (!released) over(again);
    released = true;
  };
  return { wire, release };
}

function end(wire: Held): void {
  clearTimeout(wire.idle);
  wire.agent.destroy();
  wire.socket.destroy();
}

function forget(kept: Held[], wire: Held): void {
  clearTimeout(wire.idle);
  const at = kept.indexOf(wire);
  if (at >= 0) kept.splice(at, 1);
}

function dialled(deps: LineDeps, target: Target, signal: AbortSignal): Promise<Socket> {
  return atPace(deps, target.host, () => connected(deps, target, signal), signal);
}

async function connected(deps: LineDeps, target: Target, signal: AbortSignal): Promise<Socket> {
  const timeoutMs = deps.timeouts.command;
  const raw = await deps.egress.connect({ host: target.host, port: target.port, timeoutMs }, signal);
  // An error on a connection that nobody uses would otherwise end the process.
  raw.on("error", () => undefined);
  raw.setKeepAlive(true, KEEP_ALIVE_MS);
  raw.setNoDelay(true);
  if (!target.secure) return raw;
  const socket = await secured(raw, target, timeoutMs, signal);
  socket.on("error", () => undefined);
  return socket;
}

/** An agent that has this one connection and never another. */
function agentOver(socket: Socket): Agent {
  const agent = new Agent({ keepAlive: true, keepAliveMsecs: KEEP_ALIVE_MS, maxSockets: 1, maxFreeSockets: 1 });
  agent.createConnection = () => socket;
  return agent;
}

/** So many at once, the others in the order in which they came. */
function turns(most: number): { take(signal: AbortSignal): Promise<void>; give(): void } {
  let free = most;
  const waiting: (() => void)[] = [];
  return {
    take(signal) {
      signal.throwIfAborted();
      if (free > 0) {
        free--;
        return Promise.resolve();
      }
      const { promise, resolve, reject } = Promise.withResolvers<void>();
      const stop = () => {
        waiting.splice(waiting.indexOf(go), 1);
        reject(signal.reason);
      };
      const go = () => {
        signal.removeEventListener("abort", stop);
        resolve();
      };
      signal.addEventListener("abort", stop, { once: true });
      waiting.push(go);
      return promise;
    },
    give() {
      const next = waiting.shift();
      if (next) next();
      else free++;
    },
  };
}
