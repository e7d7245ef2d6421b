/**
 * Admits deliveries to an endpoint: through its line, which limits how many run at once, and through a circuit breaker
 * that pauses a failing endpoint. An endpoint is a URL; two URLs of one server have a circuit breaker each.
 */
import type { Emit } from "../../shared/telemetry/events.ts";
import type { Backoff } from "../../shared/time.ts";
import { clock } from "../../shared/time.ts";
import type { VisitEnd } from "../shares/answers.ts";
import { type Destination, LineFull, type Lines, type Visit } from "../shares/lines.ts";
import type { PostOutcome } from "./endpoint.ts";
import { isAbsent, isEndpointFailure } from "./outcome.ts";

/**
 * The URL of the request, the line to wait in, and the mailbox that waits. `changedAt` is when its settings were changed,
 * in milliseconds: a failure before that says nothing about them.
 */
export type EndpointTarget = { url: string; destination: Destination; owner: string; changedAt?: number };

export type PermitResult =
  /** The delivery may start. Call `release` exactly once, with the outcome, or with undefined if nothing was posted. */
  | { kind: "go"; release: (outcome: PostOutcome | undefined) => void }
  /** The delivery may not start: the endpoint is paused, or (`busy`) too many deliveries wait for it. */
  | { kind: "rest"; until: Date; busy: boolean };

export interface CircuitBreakers {
  /** Waits in the line of the target for some seconds at most. Rejects with the signal's reason. */
  acquire(target: EndpointTarget, signal: AbortSignal): Promise<PermitResult>;
  /** True while the circuit is open. Then nothing is sent to this URL, and nobody waits for it. */
  isPaused(url: string): boolean;
  /** The URLs that are paused because nobody was there. Their pause may end as soon as somebody is. */
  listAbsent(): string[];
  /** Ends the pause, so that one delivery may try the endpoint. */
  endPause(url: string): void;
  /** The number of known endpoints, and of those paused now. */
  counts(): { known: number; resting: number };
}

type CircuitBreakersDeps = {
  lines: Pick<Lines, "enter" | "clear">;
  emit: Emit;
  /** Called when an endpoint at this origin accepted a message after a pause. */
  onRecovered: (origin: string) => void;
  /** How long an endpoint is paused. */
  backoff: Pick<Backoff, "rest">;
  now?: () => number;
  /** How long to wait in the line. */
  waitMs?: number;
};

type Circuit = {
  inFlight: number;
  /** Failures in a row. */
  failures: number;
  /** How often it was paused since it last worked. 0 means a closed circuit. */
  rested: number;
  restsUntil: number;
  failedAt: number;
  /** The last failure was that nobody was there. */
  absent: boolean;
  /** How many pauses were ended early since it last worked. */
  earlyEnds: number;
  probing: boolean;
  usedAt: number;
};

type BreakerContext = Required<CircuitBreakersDeps> & { circuits: Map<string, Circuit>; sweepAt: number };
type Permit = { target: EndpointTarget; circuit: Circuit; probe: boolean };

const FAILURE_THRESHOLD = 5;
const WAIT_MS = 30_000;
const CIRCUIT_TTL_MS = 3_600_000;
const MIN_SWEEP_SIZE = 100;
/** After so many early ends in vain its answer to HEAD says nothing about deliveries. */
const MOST_EARLY_ENDS = 5;

/** The circuit breakers of any number of endpoints. One that was not used for an hour is deleted. */
export function circuitBreakers({ now = clock.now, waitMs = WAIT_MS, ...deps }: CircuitBreakersDeps): CircuitBreakers {
  const context: BreakerContext = { ...deps, now, waitMs, circuits: new Map(), sweepAt: MIN_SWEEP_SIZE };
  return {
    async acquire(target, signal) {
      signal.throwIfAborted();
      const circuit = getCircuit(context, target.url);
      const pause = pauseOf(context, circuit, target);
      if (pause) return pause;
      const visit = await enterLine(context, target, signal);
      // Deliveries that went before may have opened the circuit during the wait.
      const laterPause = pauseOf(context, circuit, target);
      if (!laterPause && visit) return begin(context, target, circuit, visit);
      visit?.end("unclear");
      return laterPause ?? { kind: "rest", until: new Date(now() + context.backoff.rest(1)), busy: true };
    },
    isPaused(url) {
      const circuit = context.circuits.get(url);
      return circuit !== undefined && pauseOf(context, circuit) !== undefined;
    },
    listAbsent: () =>
      [...context.circuits]
        .filter(([, { absent, restsUntil, earlyEnds }]) => absent && restsUntil > now() && earlyEnds < MOST_EARLY_ENDS)
        .map(([url]) => url),
    endPause(url) {
      const circuit = context.circuits.get(url);
      if (circuit) Object.assign(circuit, { restsUntil: now(), earlyEnds: circuit.earlyEnds + 1 });
    },
    counts: () => {
      const resting = [...context.circuits.values()].filter(({ rested }) => rested > 0).length;
      return { known: context.circuits.size, resting };
    },
  };
}

const CLOSED = { failures: 0, rested: 0, restsUntil: 0, failedAt: 0, absent: false, earlyEnds: 0 };

function getCircuit(context: BreakerContext, url: string): Circuit {
  const { circuits, now } = context;
  const cached = circuits.get(url);
  if (cached) return Object.assign(cached, { usedAt: now() });
  if (circuits.size >= context.sweepAt) {
    for (const [name, old] of circuits) if (isExpired(old, now())) circuits.delete(name);
    context.sweepAt = Math.max(MIN_SWEEP_SIZE, circuits.size * 2);
  }
  const circuit = { inFlight: 0, probing: false, usedAt: now(), ...CLOSED };
  circuits.set(url, circuit);
  return circuit;
}

/** The pause while the circuit is open. A mailbox that was changed since the last failure may probe before its end. */
function pauseOf(
  { now, backoff }: BreakerContext,
  circuit: Circuit,
  { changedAt = 0 }: Pick<EndpointTarget, "changedAt"> = {},
): PermitResult | undefined {
  if (circuit.rested === 0) return undefined;
  if (now() < circuit.restsUntil && changedAt <= circuit.failedAt)
    return { kind: "rest", until: new Date(circuit.restsUntil), busy: false };
  // While one delivery probes the endpoint, the others come back a little later.
  if (circuit.probing) return { kind: "rest", until: new Date(now() + backoff.rest(1)), busy: false };
  return undefined;
}

/** Undefined if the wait took too long, or if too many wait. */
async function enterLine(
  { lines, waitMs }: BreakerContext,
  { destination, owner }: EndpointTarget,
  signal: AbortSignal,
): Promise<Visit | undefined> {
  try {
    return await lines.enter(destination, owner, { ms: waitMs }, signal);
  } catch (error) {
    if (error instanceof LineFull) return undefined;
    throw error;
  }
}

function begin(context: BreakerContext, target: EndpointTarget, circuit: Circuit, visit: Visit): PermitResult {
  const { now } = context;
  const probe = circuit.rested > 0;
  circuit.inFlight++;
  if (probe) circuit.probing = true;
  let released = false;
  const release = (outcome: PostOutcome | undefined) => {
    if (released) return;
    released = true;
    circuit.inFlight--;
    circuit.usedAt = now();
    if (probe) circuit.probing = false;
    if (outcome) recordOutcome(context, { target, circuit, probe }, outcome);
    visit.end(toVisitEnd(outcome));
  };
  return { kind: "go", release };
}

/**
 * Any status is an answer. A request that the service itself refused before it was sent shows nothing about the
 * endpoint.
 */
function toVisitEnd(outcome: PostOutcome | undefined): VisitEnd {
  if (outcome === undefined) return "unclear";
  if (outcome.status !== null) return "answered";
  return outcome.kind === "refused" && outcome.retry === "never" ? "unclear" : "failed";
}

function recordOutcome(context: BreakerContext, { target, circuit, probe }: Permit, outcome: PostOutcome): void {
  const wasOpen = circuit.rested > 0;
  if (!isEndpointFailure(outcome)) {
    Object.assign(circuit, CLOSED);
    if (wasOpen) context.onRecovered(new URL(target.url).origin);
    return;
  }
  circuit.failures++;
  circuit.failedAt = context.now();
  // Failures of deliveries that started before the pause show nothing new.
  const shouldOpen = wasOpen ? probe : circuit.failures >= FAILURE_THRESHOLD;
  if (shouldOpen) openCircuit(context, { target, circuit, probe }, outcome);
}

function openCircuit(
  { now, backoff, emit, lines }: BreakerContext,
  { target, circuit }: Permit,
  outcome: PostOutcome,
): void {
  const retryAtMs = outcome.kind === "refused" && outcome.retryAt ? outcome.retryAt.getTime() : 0;
  circuit.rested++;
  circuit.restsUntil = Math.max(now() + backoff.rest(circuit.rested), retryAtMs);
  circuit.absent = outcome.kind === "refused" && isAbsent(outcome);
  const until = new Date(circuit.restsUntil).toISOString();
  emit({ kind: "endpoint.paused", endpoint: new URL(target.url).origin, until, failures: circuit.failures });
  lines.clear(target.destination);
}

function isExpired(circuit: Circuit, now: number): boolean {
  return circuit.inFlight === 0 && now - circuit.usedAt > CIRCUIT_TTL_MS && now >= circuit.restsUntil;
}
