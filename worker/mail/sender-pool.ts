/**
 * Connections for sending: a few for each mailbox, kept open for a short idle time, and the rate at which messages leave.
 */
import { keyedSemaphore } from "../../shared/concurrency/keyed-semaphore.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import type { BeforeEnd, SendRequest, SendSession, SendResult } from "../../shared/mail/outgoing.ts";
import { describeLogin, openSendSession, getRatePerMinute, type SendingDeps } from "../../shared/mail/sending.ts";
import { clock, sleep } from "../../shared/time.ts";

export interface SenderPool {
  /** Hands one message over, on an open connection or a new one. Resolves and throws as `SendSession.send`. */
  send(mailbox: Mailbox, order: SendRequest, beforeEnd: BeforeEnd, signal: AbortSignal): Promise<SendResult>;
  /**
   * When the mailbox's rate allows the next message. Undefined when it may go now; then it counts. Each process counts
   * for itself.
   */
  notBefore(mailbox: Mailbox): Date | undefined;
  /** Closes idle connections until the signal aborts, then all of them. */
  run(signal: AbortSignal): Promise<void>;
}

type Pooled = { session: SendSession; login: string; idleSince: number; busy: boolean };
type Message = { order: SendRequest; beforeEnd: BeforeEnd };

/** Used if the mailbox does not say. */
const DEFAULT_CONNECTIONS = 2;
const IDLE_MS = 15_000;
const IDLE_CHECK_INTERVAL_MS = 5_000;
const WAIT_MS = 120_000;

export function senderPool(deps: SendingDeps): SenderPool {
  const connections = keyedSemaphore(DEFAULT_CONNECTIONS);
  const pools = sessionPools();
  let idleTimeoutMs = IDLE_MS;

  const open = async (mailbox: Mailbox, signal: AbortSignal): Promise<Pooled> => {
    const session = await openSendSession(deps, mailbox, signal);
    return pools.add(mailbox.id, { session, login: describeLogin(mailbox), idleSince: 0, busy: true });
  };

  const release = (mailbox: string, one: Pooled) => {
    Object.assign(one, { busy: false, idleSince: performance.now() });
    if (!one.session.open || idleTimeoutMs === 0) pools.close(mailbox, one);
  };

  const sendOver = async (one: Pooled, mailbox: Mailbox, { order, beforeEnd }: Message, signal: AbortSignal) => {
    try {
      return await one.session.send(order, beforeEnd, signal);
    } finally {
      release(mailbox.id, one);
    }
  };

  /**
   * Undefined if an idle session was closed, or has carried as many messages as its server allows, before the server
   * accepted anything.
   */
  const sendOverIdle = async (mailbox: Mailbox, { order, beforeEnd }: Message, signal: AbortSignal) => {
    const one = pools.take(mailbox);
    if (!one) return undefined;
    let ending = false;
    const trackedBeforeEnd: BeforeEnd = (accepted) => {
      ending = true;
      return beforeEnd(accepted);
    };
    try {
      const sent = await sendOver(one, mailbox, { order, beforeEnd: trackedBeforeEnd }, signal);
      if (sent.otherConnection !== "ask") return sent;
      pools.close(mailbox.id, one);
      return undefined;
    } catch (error) {
      // A server that closed an idle connection shows it only now.
      const hungUp = ["connect", "timeout", "unavailable", "throttled"].includes(asProblem(error).code);
      if (ending || !hungUp || signal.aborted) throw error;
      pools.close(mailbox.id, one);
      return undefined;
    }
  };

  return {
    async send(mailbox, order, beforeEnd, signal) {
      const size = mailbox.send?.connections ?? DEFAULT_CONNECTIONS;
      const late = () => new Problem("timeout", `No connection to send over was free within ${WAIT_MS / 1000} seconds`);
      using _ = await connections.acquire(mailbox.id, { size, ms: WAIT_MS, late }, signal);
      const message = { order, beforeEnd };
      const sent = await sendOverIdle(mailbox, message, signal);
      return sent ?? (await sendOver(await open(mailbox, signal), mailbox, message, signal));
    },
    notBefore: sendingPace(),
    async run(signal) {
      while (await sleep(IDLE_CHECK_INTERVAL_MS, signal)) pools.closeIdleSince(performance.now() - idleTimeoutMs);
      idleTimeoutMs = 0;
      pools.closeIdleSince(performance.now());
    },
  };
}

/** The open sessions by mailbox. A busy one belongs to its sender. */
function sessionPools() {
  const pools = new Map<string, Pooled[]>();

  const close = (mailbox: string, one: Pooled) => {
    const pool = pools.get(mailbox) ?? [];
    const others = pool.filter((other) => other !== one);
    if (others.length === pool.length) return;
    if (others.length > 0) pools.set(mailbox, others);
    else pools.delete(mailbox);
    one.session.close();
  };

  return {
    add(mailbox: string, one: Pooled): Pooled {
      pools.set(mailbox, [...(pools.get(mailbox) ?? []), one]);
      return one;
    },
    close,
    /** Closes sessions of another server or login, and broken ones. */
    take(mailbox: Mailbox): Pooled | undefined {
      const idle = (pools.get(mailbox.id) ?? []).filter((one) => !one.busy);
      const login = describeLogin(mailbox);
      const usable = idle.find((one) => one.login === login && one.session.open);
      for (const one of idle) if (one.login !== login || !one.session.open) close(mailbox.id, one);
      return usable && Object.assign(usable, { busy: true });
    },
    closeIdleSince(before: number): void {
      for (const [mailbox, pool] of pools) {
        for (const one of pool) if (!one.busy && one.idleSince <= before) close(mailbox, one);
      }
    },
  };
}

const MINUTE_MS = 60_000;

/** When each mailbox's rate allows its next message. */
function sendingPace(): SenderPool["notBefore"] {
  const nextFree = new Map<string, number>();
  return (mailbox) => {
    const ratePerMinute = getRatePerMinute(mailbox);
    if (ratePerMinute === null) return undefined;
    const now = clock.now();
    const gap = MINUTE_MS / ratePerMinute;
    // After a quiet minute, a tenth of the rate per minute may leave at once.
    const slot = Math.max(nextFree.get(mailbox.id) ?? 0, now - MINUTE_MS / 10);
    if (slot > now) return new Date(slot);
    nextFree.set(mailbox.id, slot + gap);
    return undefined;
  };
}
