/**
 * Connections for downloads: the subscription's own for small batches if this process has it, else a small pool per
 * mailbox.
 */
import { keyedSemaphore } from "../../shared/concurrency/keyed-semaphore.ts";
import { getClosedUntil } from "../../shared/contract/learned.ts";
import type { Mailbox } from "../../shared/contract/mailbox.ts";
import { asProblem, Problem } from "../../shared/contract/problem.ts";
import type { MailConnection } from "../../shared/mail/mail.ts";
import type { ConnectionSlots } from "../../shared/store/store.ts";
import { clock, jitter, sleep } from "../../shared/time.ts";
import { NO_ANSWER } from "../shares/answers.ts";
import type { Lines } from "../shares/lines.ts";
import type { GetDestinations } from "../shares/strangers.ts";
import type { LoginBackoff } from "./login-backoff.ts";

export interface ReaderPool {
  /**
   * Runs `work` with a connection to the mailbox, when it is the mailbox's turn at its mail host. `bytes` is the
   * expected size of the download, or OWN_CONNECTION. If the account allows no second connection, it uses the
   * subscription's own. Throws `LineFull` if too many wait for the same host.
   */
  use<T>(mailbox: Mailbox, bytes: number, work: ReadMail<T>, signal: AbortSignal): Promise<T>;
  /** Renews the slots of open connections and closes idle ones. When the signal aborts, it closes all. */
  run(signal: AbortSignal): Promise<void>;
  count(): number;
}

/** Call `progress` with each part of a long answer, to show that the host answers. */
export type ReadMail<T> = (connection: MailConnection, progress: () => void) => Promise<T>;

type ReaderPoolDeps = {
  lines: Pick<Lines, "enter">;
  getDestinations: GetDestinations;
  connect: (mailbox: Mailbox) => MailConnection;
  /** The subscriptions' connections of this process, by mailbox. */
  watched: ReadonlyMap<string, MailConnection>;
  slots: ConnectionSlots;
  /** How many connections to one mailbox all nodes may have together. */
  perMailbox: number;
  refusals: LoginBackoff;
  /** How long to wait for one of them; 15 s by default. */
  waitMs?: number;
  /** How long the slot of a dead node stays occupied; 30 s by default. */
  slotMs?: number;
};
type Pooled = { connection: MailConnection; slot: string; revision: number; idleSince: number; busy: boolean };

/** For work that may end its connection, which must not be the subscription's. */
export const OWN_CONNECTION = Number.POSITIVE_INFINITY;

/** A larger download would keep the subscription from noticing new mail for too long. */
const MAX_BORROWED_BYTES = 2 * 1024 * 1024;
const IDLE_MS = 30_000;
const MAINTENANCE_INTERVAL_MS = 5_000;
const WAIT_MS = 15_000;
/** How long to wait for the mailbox's turn at its mail host. */
const LINE_MS = 60_000;
/** How long another node's request for a slot is remembered. A connection that becomes free in this time is closed. */
const SLOT_REQUEST_TTL_MS = 3_000;
/**
 * A node that gets the request closes its idle connections at once, so the first check is soon. Each further check
 * waits twice as long.
 */
const POLL_INTERVAL_MS = { first: 50, last: 500 };
const SLOT_MS = 30_000;

export function readerPool(deps: ReaderPoolDeps): ReaderPool {
  const slotMs = deps.slotMs ?? SLOT_MS;
  const pool = connectionsInSlots({ ...deps, slotMs });
  const places = keyedSemaphore(deps.perMailbox);
  const slotRequests = new Map<string, number>();
  let idleTimeoutMs = IDLE_MS;

  /** A kept connection, or a new one as soon as one of all nodes' slots is free. */
  const acquire = async (mailbox: Mailbox, until: number, signal: AbortSignal): Promise<Pooled> => {
    for (let pollMs = POLL_INTERVAL_MS.first; ; pollMs = Math.min(POLL_INTERVAL_MS.last, 2 * pollMs)) {
      signal.throwIfAborted();
      const one = (await pool.takeIdle(mailbox)) ?? (await pool.open(mailbox));
      if (one) return one;
      if (clock.monotonic() >= until) throw tooManyConnections(deps.perMailbox);
      // Another node may keep an idle connection.
      await deps.slots.requestSlot(mailbox.id);
      await sleep(jitter(pollMs), signal);
    }
  };

  const release = async (mailbox: string, one: Pooled) => {
    const neededElsewhere = places.waiting(mailbox) === 0 && (slotRequests.get(mailbox) ?? 0) > clock.monotonic();
    if (!one.connection.open || idleTimeoutMs === 0 || neededElsewhere) await pool.close(mailbox, one);
    else Object.assign(one, { busy: false, idleSince: clock.monotonic() });
  };

  const maintain = async () => {
    const now = clock.monotonic();
    for (const [mailbox, until] of slotRequests) if (until <= now) slotRequests.delete(mailbox);
    await pool.closeIdle((one) => one.idleSince <= now - idleTimeoutMs);
    // If Redis is away, others report it. Nobody else can get a slot then either.
    await pool.renewSlots().catch(() => undefined);
  };

  return {
    async use(mailbox, bytes, work, signal) {
      checkNotClosed(mailbox);
      const watchedConnection = deps.watched.get(mailbox.id);
      if (watchedConnection?.open && bytes <= MAX_BORROWED_BYTES)
        return visitMail(deps, mailbox, (progress) => work(watchedConnection, progress), signal);
      return deps.refusals.guard(mailbox, async () => {
        const ms = deps.waitMs ?? WAIT_MS;
        const until = clock.monotonic() + ms;
        using _ = await places.acquire(mailbox.id, { ms, late: () => tooManyConnections(deps.perMailbox) }, signal);
        const visit = async (progress: () => void) => {
          const one = await acquire(mailbox, until, signal);
          try {
            return await work(one.connection, progress);
          } catch (error) {
            const watching = deps.watched.get(mailbox.id);
            if (!watching?.open || asProblem(error).code !== "too_many_connections" || signal.aborted) throw error;
            return await work(watching, progress);
          } finally {
            await release(mailbox.id, one);
          }
        };
        return await visitMail(deps, mailbox, visit, signal);
      });
    },
    async run(signal) {
      const unsubscribe = deps.slots.onSlotRequest((mailbox) => {
        // The requesting node gets its own request too, but it has no idle connection then.
        slotRequests.set(mailbox, clock.monotonic() + SLOT_REQUEST_TTL_MS);
        void pool.closeIdle(() => true, [mailbox]);
      });
      while (await sleep(Math.min(MAINTENANCE_INTERVAL_MS, slotMs / 4), signal)) await maintain();
      unsubscribe();
      idleTimeoutMs = 0;
      await pool.closeIdle(() => true);
    },
    count: pool.count,
  };
}

/** Runs the work when it is the mailbox's turn at its mail host, and records how the host answered. */
async function visitMail<T>(
  { lines, getDestinations }: Pick<ReaderPoolDeps, "lines" | "getDestinations">,
  mailbox: Mailbox,
  work: (progress: () => void) => Promise<T>,
  signal: AbortSignal,
): Promise<T> {
  using visit = await lines.enter(getDestinations(mailbox).mail, mailbox.id, { ms: LINE_MS }, signal);
  try {
    const done = await work(visit.progress);
    visit.end("answered");
    return done;
  } catch (error) {
    if (!signal.aborted && NO_ANSWER.has(asProblem(error).code)) visit.end("failed");
    throw error;
  }
}

/** The open connections by mailbox, each with a slot in the store. A busy one is closed when its work ends. */
function connectionsInSlots({ connect, slots, perMailbox, slotMs }: ReaderPoolDeps & { slotMs: number }) {
  const pools = new Map<string, Pooled[]>();

  const close = async (mailbox: string, one: Pooled) => {
    one.busy = true;
    const others = (pools.get(mailbox) ?? []).filter((other) => other !== one);
    if (others.length > 0) pools.set(mailbox, others);
    else pools.delete(mailbox);
    await one.connection.close();
    // A slot that cannot be released now expires.
    await slots.release(mailbox, one.slot).catch(() => undefined);
  };

  return {
    close,
    /** Closes connections that are for an old revision or that were lost. */
    async takeIdle(mailbox: Mailbox): Promise<Pooled | undefined> {
      const idle = (pools.get(mailbox.id) ?? []).filter((one) => !one.busy);
      const usable = idle.find((one) => one.revision === mailbox.revision && one.connection.open);
      if (usable) return Object.assign(usable, { busy: true });
      await Promise.all(idle.map((one) => close(mailbox.id, one)));
      return undefined;
    },
    /** Undefined if all slots are occupied. */
    async open(mailbox: Mailbox): Promise<Pooled | undefined> {
      const slot = await slots.acquire(mailbox.id, perMailbox, slotMs);
      if (slot === undefined) return undefined;
      const one = { connection: connect(mailbox), slot, revision: mailbox.revision, idleSince: 0, busy: true };
      pools.set(mailbox.id, [...(pools.get(mailbox.id) ?? []), one]);
      return one;
    },
    async closeIdle(shouldClose: (one: Pooled) => boolean, mailboxes = [...pools.keys()]): Promise<void> {
      await Promise.all(
        mailboxes.flatMap((mailbox) =>
          (pools.get(mailbox) ?? []).filter((one) => !one.busy && shouldClose(one)).map((one) => close(mailbox, one)),
        ),
      );
    },
    async renewSlots(): Promise<void> {
      const taken = [...pools].flatMap(([mailbox, pool]) => pool.map(({ slot }) => ({ mailbox, slot })));
      if (taken.length > 0) await slots.renew(taken, slotMs);
    },
    count: () => [...pools.values()].reduce((sum, pool) => sum + pool.length, 0),
  };
}

function checkNotClosed(mailbox: Mailbox): void {
  const retry = getClosedUntil(mailbox);
  if (retry) throw new Problem("unavailable", "The CRM closed this mailbox", { retry });
}

function tooManyConnections(limit: number): Problem {
  return new Problem("too_many_connections", `All ${limit} connections that workers may have to this mailbox are busy`);
}
