/**
 * One streaming connection for up to 200 subscriptions of a login. It is replaced before its time ends and whenever it
 * breaks. The service does not guess what it missed meanwhile: it tells every subscription to compare its folders.
 */
import { asProblem, Problem } from "../../../contract/problem.ts";
import { clock, jitter, sleep } from "../../../time.ts";
import { type FailureKind, classifyProblem } from "./failure-kinds.ts";
import { type Listener, getStreamingEvents, type Subscription } from "./get-streaming-events.ts";
import { subscribeStreaming, unsubscribe } from "./subscribe.ts";

export type StreamTimes = {
  /** A connection is replaced after this time. The server ends it after half an hour at most. */
  lifeMs: number;
  /** After this much silence the connection counts as dead. Exchange sends a heartbeat every 45 seconds. */
  silenceMs: number;
  /** New subscriptions are gathered for this long, because each change needs a new connection. */
  gatherMs: number;
  /**
   * After a new connection for new subscriptions only, the others compare their folders this much later, once for many
   * changes.
   */
  settleMs: number;
  /** A connection that keeps failing for this long is given up. */
  patienceMs: number;
  /** How long to wait after the n-th failure in a row. */
  backoff: (failures: number) => number;
};

/**
 * Why a stream no longer serves a subscription: it needs a new subscription, another connection, or another way than
 * streams. `stale`: connections do not stay open, for whatever reason.
 */
export type StreamEnd = FailureKind | "stale";

type StreamSubscription = Subscription & { fresh: boolean; end: (how: StreamEnd | Problem) => void };
/** How a connection ended: whether it lived long enough to count as good, and the Problem that ended it. */
type Outcome = { stable: boolean; problem: Problem | null };

const UNSUBSCRIBE_TIMEOUT_MS = 1000;
/** A connection that ended sooner than this does not restart the schedule of waits. */
const STABLE_MS = 10_000;
/** The server may count a closed connection until its next heartbeat finds nobody there. */
const CROWDED_TRIES = 7;
const ACCOUNT_WIDE = new Set(["auth", "auth_method", "token"]);

export class EventStream {
  readonly #times: StreamTimes;
  readonly #anchor: string;
  /** How many callers are subscribing or subscribed. */
  #subscriberCount = 0;
  /** The subscriptions, by their ids. */
  readonly #subscriptions = new Map<string, StreamSubscription>();
  #running = false;
  /** The present connection. Aborting it makes a new one. */
  #connection = new AbortController();
  /** Aborts when there are no subscriptions left. */
  #empty = new AbortController();
  #requester: StreamSubscription | undefined;
  /** True once a connection worked: the server allows this connection. */
  #opened = false;
  #gatherTimer: NodeJS.Timeout | undefined;
  #settleTimer: NodeJS.Timeout | undefined;
  /** True while new subscriptions are the only reason for a new connection. */
  #newcomersOnly = false;

  /** A stream without a connection. The mailbox of the anchor decides to which server it goes. */
  constructor(times: StreamTimes, anchor: string) {
    this.#times = times;
    this.#anchor = anchor;
  }

  get subscriberCount(): number {
    return this.#subscriberCount;
  }

  /**
   * Subscribes, and listens until that ends. Throws the Problem for which the mailbox must be given up, or the signal's
   * reason.
   */
  async follow(listener: Listener, signal: AbortSignal): Promise<StreamEnd> {
    this.#subscriberCount++;
    try {
      const id = await subscribeStreaming(listener.session, listener.folders, this.#anchor, signal);
      return await this.#followSubscription(listener, id, signal);
    } finally {
      this.#subscriberCount--;
    }
  }

  async #followSubscription(listener: Listener, id: string, signal: AbortSignal): Promise<StreamEnd> {
    const { promise, resolve, reject } = Promise.withResolvers<StreamEnd>();
    const end = (how: StreamEnd | Problem) => (how instanceof Problem ? reject(how) : resolve(how));
    const subscription: StreamSubscription = {
      listener,
      id,
      fresh: true,
      end,
      onLost: () => this.#endOne(subscription, "lost"),
    };
    const stop = () => reject(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    // After a Problem it does not unsubscribe, because it would send a refused password again for each subscription.
    let shouldUnsubscribe = false;
    try {
      if (signal.aborted) stop();
      else this.#join(subscription);
      const ending = await promise;
      shouldUnsubscribe = ending !== "lost";
      return ending;
    } finally {
      signal.removeEventListener("abort", stop);
      this.#leave(subscription);
      if ((shouldUnsubscribe || signal.aborted) && listener.session.open) {
        await unsubscribe(listener.session, id, this.#anchor, AbortSignal.timeout(UNSUBSCRIBE_TIMEOUT_MS));
      }
    }
  }

  #join(subscription: StreamSubscription): void {
    this.#subscriptions.set(subscription.id, subscription);
    if (!this.#running) void this.#run();
    else if (this.#requester) this.#gatherTimer ??= setTimeout(() => this.#reopen(true), this.#times.gatherMs);
  }

  #leave(subscription: StreamSubscription): void {
    if (this.#subscriptions.get(subscription.id) === subscription) this.#subscriptions.delete(subscription.id);
    if (this.#subscriptions.size === 0) this.#empty.abort();
    if (this.#subscriptions.size === 0 || this.#requester === subscription) this.#reopen(false);
  }

  #reopen(newcomersOnly: boolean): void {
    this.#newcomersOnly = newcomersOnly;
    this.#connection.abort();
  }

  async #run(): Promise<void> {
    this.#running = true;
    let failures = 0;
    let failingSince = 0;
    while (this.#subscriptions.size > 0) {
      const requester = [...this.#subscriptions.values()].find(({ listener }) => listener.session.open);
      if (!requester) {
        this.#endAll(new Problem("connect", "The connection to Exchange was closed"));
        break;
      }
      const { stable, problem } = await this.#runConnection(requester);
      if (stable) failures = 0;
      if (failures === 0) failingSince = performance.now();
      if (!problem && (stable || this.#connection.signal.aborted)) continue;
      failures++;
      const late = performance.now() - failingSince >= this.#times.patienceMs;
      if (this.#handleFailure(problem, requester, { late, failures })) continue;
      await sleep(retryDelayMs(problem, this.#times.backoff(failures)), this.#empty.signal);
    }
    for (const timer of [this.#gatherTimer, this.#settleTimer]) clearTimeout(timer);
    [this.#gatherTimer, this.#settleTimer] = [undefined, undefined];
    this.#running = false;
  }

  /** One connection from its opening to its end. */
  async #runConnection(requester: StreamSubscription): Promise<Outcome> {
    const startedAt = performance.now();
    this.#requester = requester;
    this.#connection = new AbortController();
    this.#empty = new AbortController();
    clearTimeout(this.#gatherTimer);
    this.#gatherTimer = undefined;
    const { signal } = this.#connection;
    const life = setTimeout(() => this.#reopen(false), jitter(this.#times.lifeMs));
    const subscriptions = new Map(this.#subscriptions);
    const { session } = requester.listener;
    const request = { session, anchor: this.#anchor, subscriptions, silenceMs: this.#times.silenceMs };
    const isStable = () => performance.now() - startedAt >= STABLE_MS;
    try {
      await getStreamingEvents({ ...request, onOpened: () => this.#notifyAll(subscriptions) }, signal);
      this.#newcomersOnly = false;
      return { stable: isStable(), problem: null };
    } catch (error) {
      if (signal.aborted) return { stable: isStable(), problem: null };
      this.#newcomersOnly = false;
      return { stable: isStable(), problem: asProblem(error) };
    } finally {
      clearTimeout(life);
      this.#requester = undefined;
    }
  }

  #notifyAll(subscriptions: ReadonlyMap<string, StreamSubscription>): void {
    this.#opened = true;
    let others = false;
    for (const subscription of subscriptions.values()) {
      if (subscription.fresh) subscription.listener.onStatus({ kind: "how", push: true });
      if (subscription.fresh || !this.#newcomersOnly) subscription.listener.onChanges("all");
      else others = true;
      subscription.fresh = false;
    }
    if (!others) return;
    this.#settleTimer ??= setTimeout(() => {
      this.#settleTimer = undefined;
      for (const { listener } of this.#subscriptions.values()) listener.onChanges("all");
    }, this.#times.settleMs);
  }

  /** Ends the subscriptions that a failure concerns. Returns true if the next connection needs no wait. */
  #handleFailure(
    problem: Problem | null,
    requester: StreamSubscription,
    { late, failures }: { late: boolean; failures: number },
  ): boolean {
    const kind = problem ? classifyProblem(problem) : undefined;
    if (kind === "crowded" && this.#opened && failures < CROWDED_TRIES) return false;
    if (kind !== undefined) this.#endAll(kind);
    else if (problem && isAccountWide(problem, this.#times.patienceMs)) this.#endAll(problem);
    else if (problem && (problem.retry === "never" || !requester.listener.session.open))
      this.#endOne(requester, problem);
    else if (late) this.#endAll("stale");
    else return this.#passOn(requester);
    return true;
  }

  #endAll(how: StreamEnd | Problem): void {
    for (const subscription of this.#subscriptions.values()) this.#endOne(subscription, how);
  }

  #endOne(subscription: StreamSubscription, how: StreamEnd | Problem): void {
    this.#subscriptions.delete(subscription.id);
    subscription.end(how);
  }

  /** Another mailbox of the login makes the next request. */
  #passOn(requester: StreamSubscription): false {
    if (this.#subscriptions.delete(requester.id)) this.#subscriptions.set(requester.id, requester);
    return false;
  }
}

/** A problem of the login, or a server that wants a long pause, concerns all mailboxes on the stream. */
function isAccountWide({ code, retry }: Problem, patienceMs: number): boolean {
  if (retry instanceof Date) return retry.getTime() - clock.now() > patienceMs;
  return retry === "never" && ACCOUNT_WIDE.has(code);
}

/**
 * Waits as long as the server asks for. But if the server counts one connection too many, that may be over in a moment.
 */
function retryDelayMs(problem: Problem | null, ms: number): number {
  if (!(problem?.retry instanceof Date) || classifyProblem(problem) === "crowded") return ms;
  return Math.max(ms, problem.retry.getTime() - clock.now());
}
