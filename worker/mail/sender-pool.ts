/** Connections to send over: a few per mailbox, kept for a short idle time, and the pace at which messages leave. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { BeforeEnd, Order, SendSession, Transmission } from "../../shared/mail/outgoing.ts";
import { openSending, paceOf, type SendingDeps } from "../../shared/mail/sending.ts";
import { slept, within } from "../../shared/time.ts";

export interface Senders {
  /** Hands one message over, on a kept connection or a new one. Throws and resolves as `SendSession.transmit` does. */
  send(mailbox: Mailbox, order: Order, beforeEnd: BeforeEnd, signal: AbortSignal): Promise<Transmission>;
  /** When the mailbox's pace lets the next message go; undefined when it may go now, which then counts. Counted per process. */
  notBefore(mailbox: Mailbox): Date | undefined;
  /** Closes idle connections until the signal aborts, then all of them. */
  run(signal: AbortSignal): Promise<void>;
}

type Pooled = { session: SendSession | undefined; revision: number; idleSince: number; busy: boolean; used: boolean };

/** Where the mailbox does not say. */
const PER_MAILBOX = 2;
const IDLE_MS = 15_000;
const LOOK_EVERY_MS = 5_000;
const WAIT_MS = 120_000;
const MINUTE_MS = 60_000;

export function senders(deps: SendingDeps): Senders {
  const pools = new Map<string, Pooled[]>();
  const waiting = new Map<string, Set<() => void>>();
  const nextFree = new Map<string, number>();
  let keepIdleMs = IDLE_MS;

  const drop = (mailbox: string, one: Pooled) => {
    const rest = (pools.get(mailbox) ?? []).filter((other) => other !== one);
    if (rest.length > 0) pools.set(mailbox, rest);
    else pools.delete(mailbox);
    one.session?.close();
  };

  const take = async (mailbox: Mailbox, signal: AbortSignal): Promise<Pooled> => {
    for (;;) {
      signal.throwIfAborted();
      const idle = (pools.get(mailbox.id) ?? []).filter((one) => !one.busy);
      for (const one of idle) if (one.revision !== mailbox.revision || !one.session?.open) drop(mailbox.id, one);
      const pool = pools.get(mailbox.id) ?? [];
      const kept = pool.find((one) => !one.busy);
      if (kept) return Object.assign(kept, { busy: true });
      if (pool.length < (mailbox.send?.connections ?? PER_MAILBOX)) {
        const one = { session: undefined, revision: mailbox.revision, idleSince: 0, busy: true, used: false };
        pools.set(mailbox.id, [...pool, one]);
        return one;
      }
      await turn(mailbox.id, signal);
    }
  };

  /** Resolves when a connection was given back; who cannot wait for it passes it on. */
  const turn = async (mailbox: string, signal: AbortSignal): Promise<void> => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const queue = waiting.get(mailbox) ?? new Set();
    waiting.set(mailbox, queue.add(resolve));
    try {
      await within(WAIT_MS, "A free connection to send over", promise, signal);
      signal.throwIfAborted();
    } catch (error) {
      if (queue.has(resolve)) leave(mailbox, resolve);
      else wake(mailbox);
      throw error;
    }
  };

  const leave = (mailbox: string, one: () => void) => {
    waiting.get(mailbox)?.delete(one);
    if (waiting.get(mailbox)?.size === 0) waiting.delete(mailbox);
  };

  const wake = (mailbox: string) => {
    const [next] = waiting.get(mailbox) ?? [];
    if (!next) return;
    leave(mailbox, next);
    next();
  };

  const giveBack = (mailbox: string, one: Pooled) => {
    Object.assign(one, { busy: false, used: true, idleSince: performance.now() });
    if (!one.session?.open || keepIdleMs === 0) drop(mailbox, one);
    wake(mailbox);
  };

  async function over(
    one: Pooled,
    mailbox: Mailbox,
    message: { order: Order; beforeEnd: BeforeEnd },
    signal: AbortSignal,
  ) {
    one.session ??= await openSending(deps, mailbox, signal);
    const { order, beforeEnd } = message;
    if (!one.used) return one.session.transmit(order, beforeEnd, signal);
    let ending = false;
    const watched: BeforeEnd = (accepted) => {
      ending = true;
      return beforeEnd(accepted);
    };
    try {
      return await one.session.transmit(order, watched, signal);
    } catch (error) {
      // A server that hung up on an idle connection says so only now; nothing was handed over yet.
      const hungUp = ["connect", "timeout", "unavailable"].includes(asProblem(error).code);
      if (ending || !hungUp || signal.aborted) throw error;
    }
    one.session.close();
    one.session = await openSending(deps, mailbox, signal);
    return one.session.transmit(order, beforeEnd, signal);
  }

  const closeIdle = () => {
    const before = performance.now() - keepIdleMs;
    for (const [mailbox, pool] of pools) {
      for (const one of pool) if (!one.busy && one.idleSince <= before) drop(mailbox, one);
    }
  };

  return {
    async send(mailbox, order, beforeEnd, signal) {
      const one = await take(mailbox, signal);
      try {
        return await over(one, mailbox, { order, beforeEnd }, signal);
      } finally {
        giveBack(mailbox.id, one);
      }
    },
    notBefore(mailbox) {
      const ratePerMinute = paceOf(mailbox);
      if (ratePerMinute === null) return undefined;
      const now = Date.now();
      const gap = MINUTE_MS / ratePerMinute;
      // After a quiet minute a tenth of its share may go at once.
      const slot = Math.max(nextFree.get(mailbox.id) ?? 0, now - MINUTE_MS / 10);
      if (slot > now) return new Date(slot);
      nextFree.set(mailbox.id, slot + gap);
      return undefined;
    },
    async run(signal) {
      while (await slept(LOOK_EVERY_MS, signal)) closeIdle();
      keepIdleMs = 0;
      closeIdle();
    },
  };
}
