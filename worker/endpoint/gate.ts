/**
 * The gate in front of each endpoint: how many deliveries go at once, and a circuit breaker that leaves an endpoint in trouble
 * alone for a while. Endpoints share nothing, so a hung one delays no other.
 */
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Backoff } from "../../shared/time.ts";
import type { PostOutcome } from "./endpoint.ts";
import { isTrouble } from "./verdict.ts";

export type Entry =
  /** Go ahead; call `leave` exactly once, with the outcome, or undefined when nothing was posted. */
  | { kind: "go"; leave: (outcome: PostOutcome | undefined) => void }
  /** Not now: the endpoint rests, or (`busy`) too many were waiting for it. */
  | { kind: "rest"; until: Date; busy: boolean };

export interface EndpointGates {
  /** Waits for a place, some seconds at most. Rejects with the signal's reason. */
  enter(endpoint: string, signal: AbortSignal): Promise<Entry>;
  /** Endpoints known, and how many of them rest now. */
  counts(): { known: number; resting: number };
}

type Deps = {
  /** Deliveries to one endpoint at once. */
  perEndpoint: number;
  emit: Emit;
  /** The endpoint took a message again after it had rested. */
  onRecovered: (endpoint: string) => void;
  /** How long an endpoint rests. */
  backoff: Pick<Backoff, "rest">;
  now?: () => number;
  /** How long to wait for a place. */
  waitMs?: number;
};

type Waiter = { go: () => void };
type Gate = {
  inside: number;
  waiting: Waiter[];
  /** Troubles in a row. */
  failures: number;
  /** How often it was sent to rest since it last worked; 0 means closed circuit, all may enter. */
  rested: number;
  restsUntil: number;
  probing: boolean;
  usedAt: number;
};

const FAILURES = 5;
const WAIT_MS = 10_000;
const FORGET_MS = 3_600_000;
const SWEEP_AT = 100;

/** Gates for any number of endpoints; one that was not used for an hour is forgotten. */
export function endpointGates(deps: Deps): EndpointGates {
  const { perEndpoint, emit, onRecovered, backoff, now = Date.now, waitMs = WAIT_MS } = deps;
  const gates = new Map<string, Gate>();
  let sweepAt = SWEEP_AT;

  const gateOf = (endpoint: string): Gate => {
    const gate = gates.get(endpoint) ?? newGate();
    gate.usedAt = now();
    if (!gates.has(endpoint) && gates.size >= sweepAt) {
      for (const [name, old] of gates) if (isForgotten(old, now())) gates.delete(name);
      sweepAt = Math.max(SWEEP_AT, gates.size * 2);
    }
    gates.set(endpoint, gate);
    return gate;
  };

  const rest = (endpoint: string, gate: Gate, outcome: PostOutcome) => {
    const asked = outcome.kind === "refused" && outcome.retryAt ? outcome.retryAt.getTime() : 0;
    gate.rested++;
    gate.restsUntil = Math.max(now() + backoff.rest(gate.rested), asked);
    emit({
      kind: "endpoint.rested",
      endpoint,
      until: new Date(gate.restsUntil).toISOString(),
      failures: gate.failures,
    });
    for (const waiter of gate.waiting.splice(0)) waiter.go();
  };

  const leave = (endpoint: string, gate: Gate, probe: boolean, outcome: PostOutcome | undefined) => {
    gate.inside--;
    gate.usedAt = now();
    if (probe) gate.probing = false;
    // Whoever was still inside when the endpoint was sent to rest says nothing new by failing.
    const late = gate.rested > 0 && !probe;
    if (outcome && isTrouble(outcome)) {
      gate.failures++;
      if (!late && (probe || gate.failures >= FAILURES)) rest(endpoint, gate, outcome);
    } else if (outcome) {
      const recovered = gate.rested > 0;
      Object.assign(gate, { failures: 0, rested: 0, restsUntil: 0 });
      if (recovered) onRecovered(endpoint);
    }
    gate.waiting.shift()?.go();
  };

  const tryEnter = (endpoint: string, gate: Gate): Entry | undefined => {
    const probe = gate.rested > 0;
    if (probe && now() < gate.restsUntil) return { kind: "rest", until: new Date(gate.restsUntil), busy: false };
    // While one delivery probes, the others come back a little later.
    if (gate.probing) return { kind: "rest", until: new Date(now() + backoff.rest(1)), busy: false };
    if (gate.inside >= perEndpoint) return undefined;
    gate.inside++;
    if (probe) gate.probing = true;
    let left = false;
    const leaveOnce = (outcome: PostOutcome | undefined) => {
      if (left) return;
      left = true;
      leave(endpoint, gate, probe, outcome);
    };
    return { kind: "go", leave: leaveOnce };
  };

  return {
    async enter(endpoint, signal) {
      signal.throwIfAborted();
      const gate = gateOf(endpoint);
      const end = now() + waitMs;
      for (;;) {
        const entry = tryEnter(endpoint, gate);
        if (entry) return entry;
        if (now() >= end) return { kind: "rest", until: new Date(now() + backoff.rest(1)), busy: true };
        await turn(gate, end - now(), signal);
      }
    },
    counts: () => {
      const resting = [...gates.values()].filter((gate) => gate.rested > 0).length;
      return { known: gates.size, resting };
    },
  };
}

/** Resolves when a place may be free, or after `ms`; rejects with the signal's reason. */
function turn(gate: Gate, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const waiter: Waiter = { go: () => finish(resolve) };
    const stop = () => finish(() => reject(signal.reason));
    const finish = (how: () => void) => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
      const at = gate.waiting.indexOf(waiter);
      if (at >= 0) gate.waiting.splice(at, 1);
      how();
    };
    const timer = setTimeout(waiter.go, Math.max(ms, 1));
    signal.addEventListener("abort", stop, { once: true });
    gate.waiting.push(waiter);
  });
}

function newGate(): Gate {
  return { inside: 0, waiting: [], failures: 0, rested: 0, restsUntil: 0, probing: false, usedAt: 0 };
}

function isForgotten(gate: Gate, now: number): boolean {
  return gate.inside === 0 && gate.waiting.length === 0 && now - gate.usedAt > FORGET_MS && now >= gate.restsUntil;
}
