/**
 * The gate in front of each endpoint: how many deliveries go at once, and a circuit breaker that leaves an endpoint in trouble
 * alone for a while. Endpoints share nothing, so a hung one delays no other.
 */
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Backoff } from "../../shared/time.ts";
import type { PostOutcome } from "./endpoint.ts";
import { isTrouble } from "./outcome.ts";

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

type House = Required<Deps> & { gates: Map<string, Gate>; sweepAt: number };
type Visit = { endpoint: string; gate: Gate; probe: boolean };

const FAILURES = 5;
const WAIT_MS = 30_000;
const FORGET_MS = 3_600_000;
const SWEEP_AT = 100;

/** Gates for any number of endpoints; one that was not used for an hour is forgotten. */
export function endpointGates({ now = Date.now, waitMs = WAIT_MS, ...given }: Deps): EndpointGates {
  const house: House = { ...given, now, waitMs, gates: new Map(), sweepAt: SWEEP_AT };
  return {
    async enter(endpoint, signal) {
      signal.throwIfAborted();
      const gate = gateOf(house, endpoint);
      const end = now() + waitMs;
      for (;;) {
        const entry = tryEnter(house, endpoint, gate);
        if (entry) return entry;
        if (now() >= end) return { kind: "rest", until: new Date(now() + house.backoff.rest(1)), busy: true };
        await turn(gate, end - now(), signal);
      }
    },
    counts: () => {
      const resting = [...house.gates.values()].filter((gate) => gate.rested > 0).length;
      return { known: house.gates.size, resting };
    },
  };
}

function gateOf(house: House, endpoint: string): Gate {
  const { gates, now } = house;
  const known = gates.get(endpoint);
  if (known) return Object.assign(known, { usedAt: now() });
  if (gates.size >= house.sweepAt) {
    for (const [name, old] of gates) if (isForgotten(old, now())) gates.delete(name);
    house.sweepAt = Math.max(SWEEP_AT, gates.size * 2);
  }
  const gate = newGate(now());
  gates.set(endpoint, gate);
  return gate;
}

/** A place if there is one, a rest while the circuit is open, undefined when everybody has to wait. */
function tryEnter(house: House, endpoint: string, gate: Gate): Entry | undefined {
  const { now, backoff, perEndpoint } = house;
  const probe = gate.rested > 0;
  if (probe && now() < gate.restsUntil) return { kind: "rest", until: new Date(gate.restsUntil), busy: false };
  // While one delivery probes, the others come back a little later.
  if (gate.probing) return { kind: "rest", until: new Date(now() + backoff.rest(1)), busy: false };
  if (gate.inside >= perEndpoint) return undefined;
  gate.inside++;
  if (probe) gate.probing = true;
  let left = false;
  const leave = (outcome: PostOutcome | undefined) => {
    if (left) return;
    left = true;
    gate.inside--;
    gate.usedAt = now();
    if (probe) gate.probing = false;
    if (outcome) judge(house, { endpoint, gate, probe }, outcome);
    gate.waiting.shift()?.go();
  };
  return { kind: "go", leave };
}

function judge(house: House, { endpoint, gate, probe }: Visit, outcome: PostOutcome): void {
  const rested = gate.rested > 0;
  if (!isTrouble(outcome)) {
    Object.assign(gate, { failures: 0, rested: 0, restsUntil: 0 });
    if (rested) house.onRecovered(endpoint);
    return;
  }
  gate.failures++;
  // Whoever was still inside when the endpoint was sent to rest says nothing new by failing.
  const news = rested ? probe : gate.failures >= FAILURES;
  if (news) sendToRest(house, { endpoint, gate, probe }, outcome);
}

function sendToRest({ now, backoff, emit }: House, { endpoint, gate }: Visit, outcome: PostOutcome): void {
  const asked = outcome.kind === "refused" && outcome.retryAt ? outcome.retryAt.getTime() : 0;
  gate.rested++;
  gate.restsUntil = Math.max(now() + backoff.rest(gate.rested), asked);
  const until = new Date(gate.restsUntil).toISOString();
  emit({ kind: "endpoint.rested", endpoint, until, failures: gate.failures });
  for (const waiter of gate.waiting.splice(0)) waiter.go();
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

function newGate(usedAt: number): Gate {
  return { inside: 0, waiting: [], failures: 0, rested: 0, restsUntil: 0, probing: false, usedAt };
}

function isForgotten(gate: Gate, now: number): boolean {
  return gate.inside === 0 && gate.waiting.length === 0 && now - gate.usedAt > FORGET_MS && now >= gate.restsUntil;
}
