/**
 * A stream: one hanging connection that hears for up to 200 subscriptions of an account, reopened before its time is over and whenever
 * it is lost. What could have been missed meanwhile is not guessed: everybody on it is told to look.
 */
import { asProblem, Problem } from "../../../contract/problem.ts";
import { jittered, slept } from "../../../time.ts";
import { type Fate, fateOfProblem } from "./failure-kinds.ts";
import { type Follower, listen, type Seat } from "../listening.ts";
import { subscribed, unsubscribed } from "./subscribe.ts";

export type StreamTimes = {
  /** A connection is replaced after this time; the server ends it after half an hour at most. */
  lifeMs: number;
  /** Silence that means deafness; Exchange sends a heartbeat every 45 seconds. */
  silenceMs: number;
  /** Newcomers are gathered for so long, as each change of a connection is a new one. */
  gatherMs: number;
  /** After a change for newcomers only, the others look so much later, and once for many changes. */
  settleMs: number;
  /** A connection that fails again and again for so long is given up. */
  patienceMs: number;
  /** How long to wait after the n-th failure in a row. */
  backoff: (failures: number) => number;
};

/**
 * Why a subscription is no longer carried: a new one is needed, or another connection, or another way than streams; or connections do
 * not stay open, whatever that is due to.
 */
export type Ending = Fate | "deaf";

type Taken = Seat & { fresh: boolean; end: (how: Ending | Problem) => void };
/** What became of a connection: whether it lived long enough to trust it, and the Problem that ended it. */
type Outcome = { proven: boolean; problem: Problem | null };

const FAREWELL_MS = 1000;
/** A connection that ended sooner than this does not begin the schedule of waits anew. */
const PROVEN_MS = 10_000;
/** The server may count the connection that was just closed until its next heartbeat finds nobody there. */
const CROWDED_TRIES = 7;
const ACCOUNT_WIDE = new Set(["auth", "auth_method", "token"]);

export class EventStream {
  readonly #times: StreamTimes;
  readonly #anchor: string;
  /** Who is subscribing or subscribed. */
  #taken = 0;
  /** Who is subscribed, by the id of the subscription. */
  readonly #seats = new Map<string, Taken>();
  #running = false;
  /** The connection of now: aborted to make a new one. */
  #connection = new AbortController();
  /** Aborted when nobody is left. */
  #empty = new AbortController();
  #carrier: Taken | undefined;
  /** True once it heard: the server allows this connection. */
  #opened = false;
  #gathering: NodeJS.Timeout | undefined;
  #settling: NodeJS.Timeout | undefined;
  /** True while newcomers are the only reason for a new connection. */
  #gently = false;

  /** A stream without a connection; the mailbox of the anchor says to which server it leads. */
  constructor(times: StreamTimes, anchor: string) {
    this.#times = times;
    this.#anchor = anchor;
  }

  get seats(): number {
    return this.#taken;
  }

  /** Subscribes, and hears until that ends. Throws the Problem for which the mailbox must be given up, or the signal's reason. */
  async carry(follower: Follower, signal: AbortSignal): Promise<Ending> {
    this.#taken++;
    try {
      const id = await subscribed(follower.session, follower.folders, this.#anchor, signal);
      return await this.#seated(follower, id, signal);
    } finally {
      this.#taken--;
    }
  }

  async #seated(follower: Follower, id: string, signal: AbortSignal): Promise<Ending> {
    const { promise, resolve, reject } = Promise.withResolvers<Ending>();
    const end = (how: Ending | Problem) => (how instanceof Problem ? reject(how) : resolve(how));
    const seat: Taken = { follower, id, fresh: true, end, lost: () => this.#endOne(seat, "lost") };
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    // A Problem is no occasion to ask the server for more: a refused password would be shown once more for each seat.
    let useless = false;
    try {
      if (signal.aborted) stop();
      else this.#join(seat);
      const ending = await promise;
      useless = ending !== "lost";
      return ending;
    } finally {
      signal.removeEventListener("abort", stop);
      this.#leave(seat);
      if ((useless || signal.aborted) && follower.session.open) {
        await unsubscribed(follower.session, id, this.#anchor, AbortSignal.timeout(FAREWELL_MS));
      }
    }
  }

  #join(seat: Taken): void {
    this.#seats.set(seat.id, seat);
    if (!this.#running) void this.#run();
    else if (this.#carrier) this.#gathering ??= setTimeout(() => this.#reopen(true), this.#times.gatherMs);
  }

  #leave(seat: Taken): void {
    if (this.#seats.get(seat.id) === seat) this.#seats.delete(seat.id);
    if (this.#seats.size === 0) this.#empty.abort();
    if (this.#seats.size === 0 || this.#carrier === seat) this.#reopen(false);
  }

  #reopen(gently: boolean): void {
    this.#gently = gently;
    this.#connection.abort();
  }

  async #run(): Promise<void> {
    this.#running = true;
    let failures = 0;
    let failingSince = 0;
    while (this.#seats.size > 0) {
      const carrier = [...this.#seats.values()].find(({ follower }) => follower.session.open);
      if (!carrier) {
        this.#endAll(new Problem("connect", "The connection to Exchange was closed"));
        break;
      }
      const { proven, problem } = await this.#heard(carrier);
      if (proven) failures = 0;
      if (failures === 0) failingSince = performance.now();
      if (!problem && (proven || this.#connection.signal.aborted)) continue;
      failures++;
      const late = performance.now() - failingSince >= this.#times.patienceMs;
      if (this.#judged(problem, carrier, { late, failures })) continue;
      await slept(waitFor(problem, this.#times.backoff(failures)), this.#empty.signal);
    }
    for (const timer of [this.#gathering, this.#settling]) clearTimeout(timer);
    [this.#gathering, this.#settling] = [undefined, undefined];
    this.#running = false;
  }

  /** One connection from its opening to its end. */
  async #heard(carrier: Taken): Promise<Outcome> {
    const startedAt = performance.now();
    this.#carrier = carrier;
    this.#connection = new AbortController();
    this.#empty = new AbortController();
    clearTimeout(this.#gathering);
    this.#gathering = undefined;
    const { signal } = this.#connection;
    const life = setTimeout(() => this.#reopen(false), jittered(this.#times.lifeMs));
    const seats = new Map(this.#seats);
    const { session } = carrier.follower;
    const listening = { session, anchor: this.#anchor, seats, silenceMs: this.#times.silenceMs };
    const proven = () => performance.now() - startedAt >= PROVEN_MS;
    try {
      await listen({ ...listening, opened: () => this.#tellAll(seats) }, signal);
      this.#gently = false;
      return { proven: proven(), problem: null };
    } catch (error) {
      if (signal.aborted) return { proven: proven(), problem: null };
      this.#gently = false;
      return { proven: proven(), problem: asProblem(error) };
    } finally {
      clearTimeout(life);
      this.#carrier = undefined;
    }
  }

  #tellAll(seats: ReadonlyMap<string, Taken>): void {
    this.#opened = true;
    let others = false;
    for (const seat of seats.values()) {
      if (seat.fresh) seat.follower.told({ kind: "how", push: true });
      if (seat.fresh || !this.#gently) seat.follower.hint("all");
      else others = true;
      seat.fresh = false;
    }
    if (!others) return;
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      for (const { follower } of this.#seats.values()) follower.hint("all");
    }, this.#times.settleMs);
  }

  /** Ends whom a failure concerns. True when there is no need to wait before the next connection. */
  #judged(problem: Problem | null, carrier: Taken, { late, failures }: { late: boolean; failures: number }): boolean {
    const fate = problem ? fateOfProblem(problem) : undefined;
    if (fate === "crowded" && this.#opened && failures < CROWDED_TRIES) return false;
    if (fate !== undefined) this.#endAll(fate);
    else if (problem && isOfAll(problem, this.#times.patienceMs)) this.#endAll(problem);
    else if (problem && (problem.retry === "never" || !carrier.follower.session.open)) this.#endOne(carrier, problem);
    else if (late) this.#endAll("deaf");
    else return this.#passOn(carrier);
    return true;
  }

  #endAll(how: Ending | Problem): void {
    for (const seat of this.#seats.values()) this.#endOne(seat, how);
  }

  #endOne(seat: Taken, how: Ending | Problem): void {
    this.#seats.delete(seat.id);
    seat.end(how);
  }

  /** Another mailbox of the account asks next time. */
  #passOn(carrier: Taken): false {
    if (this.#seats.delete(carrier.id)) this.#seats.set(carrier.id, carrier);
    return false;
  }
}

/** What concerns a login, or a server that wants to be left alone for long, concerns all mailboxes on the stream. */
function isOfAll({ code, retry }: Problem, patienceMs: number): boolean {
  if (retry instanceof Date) return retry.getTime() - Date.now() > patienceMs;
  return retry === "never" && ACCOUNT_WIDE.has(code);
}

/** As long as the server asks for; but that it counts a connection too many may be over in a moment. */
function waitFor(problem: Problem | null, ms: number): number {
  if (!(problem?.retry instanceof Date) || fateOfProblem(problem) === "crowded") return ms;
  return Math.max(ms, problem.retry.getTime() - Date.now());
}
