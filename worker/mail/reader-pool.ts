/** Connections to fetch from: the subscription's own for small batches where this process holds it, else a small pool per mailbox. */
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { Problem } from "../../shared/contract/problem.ts";
import type { MailConnection } from "../../shared/mail/mail.ts";
import type { Seats } from "../../shared/store/store.ts";
import { jittered, slept } from "../../shared/time.ts";
import type { Refusals } from "./login-backoff.ts";

export interface Readers {
  /** Runs `work` with a connection to the mailbox. `bytes` is what it will download, as far as known. */
  use<T>(
    mailbox: Mailbox,
    bytes: number,
    work: (connection: MailConnection) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T>;
  /** Keeps the seats of open connections and closes idle ones until the signal aborts, then all of them. */
  run(signal: AbortSignal): Promise<void>;
  count(): number;
}

type Deps = {
  connect: (mailbox: Mailbox) => MailConnection;
  /** Connections that this process watches, by mailbox. */
  watched: ReadonlyMap<string, MailConnection>;
  seats: Seats;
  /** Connections to one mailbox, of all nodes together. */
  perMailbox: number;
  refusals: Refusals;
  /** How long to wait for one of them, 15 s if not given. */
  waitMs?: number;
  /** How long the seat of a node that died stays taken, 30 s if not given. */
  seatMs?: number;
};
type Pooled = { connection: MailConnection; seat: string; revision: number; idleSince: number; busy: boolean };

/** A download above this size would keep the subscription from hearing for too long. */
const BORROW_BYTES = 2 * 1024 * 1024;
const IDLE_MS = 30_000;
const LOOK_EVERY_MS = 5_000;
const WAIT_MS = 15_000;
/** A wish of another node is remembered for so long: who gives a connection back meanwhile closes it. */
const WISH_MS = 3_000;
/** Whoever hears a wish closes what it does not use at once, so the first look is soon; each further one waits twice as long. */
const ASK_AGAIN_MS = { first: 50, last: 500 };
const SEAT_MS = 30_000;

export function readers(deps: Deps): Readers {
  const seatMs = deps.seatMs ?? SEAT_MS;
  const pools = new Map<string, Pooled[]>();
  const opening = new Map<string, number>();
  const waiting = new Map<string, (() => void)[]>();
  const wishes = new Map<string, number>();
  let keepIdleMs = IDLE_MS;

  const count = (mailbox: string) => (pools.get(mailbox)?.length ?? 0) + (opening.get(mailbox) ?? 0);

  const drop = async (mailbox: string, one: Pooled) => {
    const rest = (pools.get(mailbox) ?? []).filter((other) => other !== one);
    if (rest.length > 0) pools.set(mailbox, rest);
    else pools.delete(mailbox);
    await one.connection.close();
    // A seat that cannot be left now ends by itself.
    await deps.seats.leave(mailbox, one.seat).catch(() => undefined);
  };

  /** A new connection if there is a seat for it. */
  const open = async (mailbox: Mailbox): Promise<Pooled | undefined> => {
    opening.set(mailbox.id, (opening.get(mailbox.id) ?? 0) + 1);
    try {
      const seat = await deps.seats.take(mailbox.id, deps.perMailbox, seatMs);
      if (seat === undefined) return undefined;
      const one = { connection: deps.connect(mailbox), seat, revision: mailbox.revision, idleSince: 0, busy: true };
      pools.set(mailbox.id, [...(pools.get(mailbox.id) ?? []), one]);
      return one;
    } finally {
      opening.set(mailbox.id, (opening.get(mailbox.id) ?? 1) - 1);
      if (opening.get(mailbox.id) === 0) opening.delete(mailbox.id);
    }
  };

  /** A connection that is there, or can be opened now. */
  const found = async (mailbox: Mailbox): Promise<Pooled | undefined> => {
    const pool = pools.get(mailbox.id) ?? [];
    const idle = pool.find((one) => !one.busy && one.revision === mailbox.revision && one.connection.open);
    if (idle) return Object.assign(idle, { busy: true });
    const stale = pool.find((one) => !one.busy);
    if (stale) {
      stale.busy = true;
      await drop(mailbox.id, stale);
    }
    if (count(mailbox.id) >= deps.perMailbox) return undefined;
    const one = await open(mailbox);
    // Another node may keep a connection that it does not use now.
    if (!one) await deps.seats.wish(mailbox.id);
    return one;
  };

  const take = async (mailbox: Mailbox, signal: AbortSignal): Promise<Pooled> => {
    const until = performance.now() + (deps.waitMs ?? WAIT_MS);
    for (let askMs = ASK_AGAIN_MS.first; ; askMs = Math.min(ASK_AGAIN_MS.last, 2 * askMs)) {
      signal.throwIfAborted();
      const one = await found(mailbox);
      if (one) return one;
      if (performance.now() >= until) throw crowded(deps.perMailbox);
      await turn(waiting, mailbox.id, askMs, signal);
    }
  };

  const giveBack = async (mailbox: string, one: Pooled) => {
    one.busy = false;
    one.idleSince = performance.now();
    const here = waiting.get(mailbox) ?? [];
    const elsewhere = here.length === 0 && (wishes.get(mailbox) ?? 0) > performance.now();
    if (!one.connection.open || keepIdleMs === 0 || elsewhere) {
      one.busy = true;
      await drop(mailbox, one);
    }
    waiting.delete(mailbox);
    for (const wake of here) wake();
  };

  const close = async (mailbox: string, wanted: (one: Pooled) => boolean) => {
    const idle = (pools.get(mailbox) ?? []).filter((one) => !one.busy && wanted(one));
    for (const one of idle) one.busy = true;
    await Promise.all(idle.map((one) => drop(mailbox, one)));
  };

  const tend = async () => {
    const now = performance.now();
    for (const [mailbox, until] of wishes) if (until <= now) wishes.delete(mailbox);
    await Promise.all([...pools.keys()].map((mailbox) => close(mailbox, (one) => one.idleSince <= now - keepIdleMs)));
    const seats = [...pools].flatMap(([mailbox, pool]) => pool.map(({ seat }) => ({ mailbox, seat })));
    // Redis is away: others say so, and while it is nobody else gets a seat either.
    if (seats.length > 0) await deps.seats.keep(seats, seatMs).catch(() => undefined);
  };

  return {
    async use(mailbox, bytes, work, signal) {
      const own = deps.watched.get(mailbox.id);
      if (own?.open && bytes <= BORROW_BYTES) return work(own);
      return deps.refusals.guard(mailbox, async () => {
        const one = await take(mailbox, signal);
        return work(one.connection).finally(() => giveBack(mailbox.id, one));
      });
    },
    async run(signal) {
      const unlisten = deps.seats.onWish((mailbox) => {
        // Heard here too by the one who wishes: it has nothing idle then.
        wishes.set(mailbox, performance.now() + WISH_MS);
        void close(mailbox, () => true);
      });
      while (await slept(Math.min(LOOK_EVERY_MS, seatMs / 4), signal)) await tend();
      unlisten();
      keepIdleMs = 0;
      await Promise.all([...pools.keys()].map((mailbox) => close(mailbox, () => true)));
    },
    count: () => [...pools.values()].reduce((sum, pool) => sum + pool.length, 0),
  };
}

function crowded(limit: number): Problem {
  return new Problem("too_many_connections", `All ${limit} connections that workers may have to this mailbox are busy`);
}

/** Resolves when a connection of this mailbox is given back here, or after `askMs`: others do not tell when they give theirs back. */
function turn(
  waiting: Map<string, (() => void)[]>,
  mailbox: string,
  askMs: number,
  signal: AbortSignal,
): Promise<void> {
  const woken = new AbortController();
  waiting.set(mailbox, [...(waiting.get(mailbox) ?? []), () => woken.abort()]);
  return slept(jittered(askMs), AbortSignal.any([signal, woken.signal])).then(() => undefined);
}
