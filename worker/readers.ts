/** Connections to fetch from: the subscription's own for small batches where this process holds it, else a small pool per mailbox. */
import type { Mailbox } from "../shared/contract/mailbox.ts";
import type { MailConnection } from "../shared/mail/mail.ts";
import { slept, within } from "../shared/time.ts";
import type { Refusals } from "./refusals.ts";

export interface Readers {
  /** Runs `work` with a connection to the mailbox. `bytes` is what it will download, as far as known. */
  use<T>(
    mailbox: Mailbox,
    bytes: number,
    work: (connection: MailConnection) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T>;
  /** Closes idle connections until the signal aborts, then all of them. */
  run(signal: AbortSignal): Promise<void>;
  count(): number;
}

type Deps = {
  connect: (mailbox: Mailbox) => MailConnection;
  /** Connections that this process watches, by mailbox. */
  watched: ReadonlyMap<string, MailConnection>;
  perMailbox: number;
  refusals: Refusals;
};
type Pooled = { connection: MailConnection; revision: number; idleSince: number; busy: boolean };

/** A download above this size would keep the subscription from hearing for too long. */
const BORROW_BYTES = 2 * 1024 * 1024;
const IDLE_MS = 30_000;
const LOOK_EVERY_MS = 5_000;
const WAIT_MS = 60_000;

export function readers(deps: Deps): Readers {
  const pools = new Map<string, Pooled[]>();
  const waiting = new Map<string, (() => void)[]>();
  let keepIdleMs = IDLE_MS;

  const drop = async (mailbox: string, one: Pooled) => {
    const rest = (pools.get(mailbox) ?? []).filter((other) => other !== one);
    if (rest.length > 0) pools.set(mailbox, rest);
    else pools.delete(mailbox);
    await one.connection.close();
  };

  const take = async (mailbox: Mailbox, signal: AbortSignal): Promise<Pooled> => {
    for (;;) {
      const pool = pools.get(mailbox.id) ?? [];
      const idle = pool.find((one) => !one.busy && one.revision === mailbox.revision && one.connection.open);
      if (idle) return Object.assign(idle, { busy: true });
      const stale = pool.find((one) => !one.busy);
      if (stale) {
        stale.busy = true;
        await drop(mailbox.id, stale);
      } else if (pool.length < deps.perMailbox) {
        const one = { connection: deps.connect(mailbox), revision: mailbox.revision, idleSince: 0, busy: true };
        pools.set(mailbox.id, [...pool, one]);
        return one;
      } else {
        await within(WAIT_MS, "A free connection to the mailbox", turn(waiting, mailbox.id), signal);
      }
    }
  };

  const giveBack = async (mailbox: string, one: Pooled) => {
    one.busy = false;
    one.idleSince = performance.now();
    if (!one.connection.open || keepIdleMs === 0) await drop(mailbox, one);
    for (const wake of waiting.get(mailbox) ?? []) wake();
    waiting.delete(mailbox);
  };

  const closeIdle = async () => {
    const before = performance.now() - keepIdleMs;
    const old = [...pools].flatMap(([mailbox, pool]) =>
      pool.filter((o) => !o.busy && o.idleSince <= before).map((o) => ({ mailbox, o })),
    );
    for (const { o } of old) o.busy = true;
    await Promise.all(old.map(({ mailbox, o }) => drop(mailbox, o)));
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
      while (await slept(LOOK_EVERY_MS, signal)) await closeIdle();
      keepIdleMs = 0;
      await closeIdle();
    },
    count: () => [...pools.values()].reduce((sum, pool) => sum + pool.length, 0),
  };
}

/** Resolves when a connection of this mailbox is given back. */
function turn(waiting: Map<string, (() => void)[]>, mailbox: string): Promise<void> {
  return new Promise((resolve) => waiting.set(mailbox, [...(waiting.get(mailbox) ?? []), resolve]));
}
