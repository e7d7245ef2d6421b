/** The subscriptions of this node: what should be listened to and what is, brought together whenever something changes. */
import { asProblem } from "../../shared/contract/problem.ts";
import type { MailboxState } from "../../shared/contract/mailbox.ts";
import type { Mailboxes } from "../../shared/store/store.ts";
import { slept } from "../../shared/time.ts";
import type { Leases } from "../lease/lease.ts";
import { keepListening, type Listening } from "./subscription.ts";

export interface Subscriptions {
  /** Listens to every wanted mailbox until the signal aborts, then closes all connections. */
  run(signal: AbortSignal): Promise<void>;
  /** Something about the mailboxes changed: look now. */
  wake(): void;
  connections(): { subscriptions: number; open: number };
}

type Deps = Listening & { leases: Leases; mailboxes: Pick<Mailboxes, "get" | "wanted" | "observe"> };
type Running = { revision: number; stop: AbortController; ended: Promise<void> };

/** A look at the wanted mailboxes even when nobody called. */
const LOOK_EVERY_MS = 15_000;
/** A subscription whose store failed is started again after this. */
const RESTART_AFTER_MS = 2_000;

export function subscriptions(deps: Deps): Subscriptions {
  const running = new Map<string, Running>();
  let woken = new AbortController();

  const start = (id: string, revision: number, signal: AbortSignal) => {
    const stop = new AbortController();
    const until = AbortSignal.any([signal, stop.signal]);
    running.set(id, { revision, stop, ended: supervised(deps, id, until) });
  };

  const end = async (id: string, { stop, ended }: Running) => {
    stop.abort(new DOMException("The subscription is no longer wanted", "AbortError"));
    await ended;
    deps.board.forget(id);
    running.delete(id);
  };

  const reconcile = async (signal: AbortSignal) => {
    const wanted = new Map((await deps.mailboxes.wanted()).map(({ id, revision }) => [id, revision]));
    const over = [...running].filter(([id, { revision }]) => wanted.get(id) !== revision);
    await Promise.all(over.map(([id, one]) => end(id, one)));
    await Promise.all(over.filter(([id]) => !wanted.has(id)).map(([id]) => markPaused(deps, id)));
    for (const [id, revision] of wanted) if (!running.has(id) && !signal.aborted) start(id, revision, signal);
  };

  return {
    async run(signal) {
      for (;;) {
        woken = new AbortController();
        await reconcile(signal).catch((error: unknown) => reportFailure(deps, "looking for wanted mailboxes", error));
        await slept(LOOK_EVERY_MS, AbortSignal.any([signal, woken.signal]));
        if (signal.aborted) break;
      }
      await Promise.all([...running.values()].map(({ ended }) => ended));
    },
    wake: () => woken.abort(),
    connections: () => ({
      subscriptions: running.size,
      open: [...deps.watched.values()].filter((connection) => connection.open).length,
    }),
  };
}

/** Holds and listens again and again until the signal aborts; a failing store is reported and ridden out. */
async function supervised(deps: Deps, id: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await deps.leases.hold(id, (lease) => keepListening(deps, id, lease), signal);
    } catch (error) {
      if (!signal.aborted) reportFailure(deps, `the subscription of mailbox ${id}`, error);
    }
    await slept(RESTART_AFTER_MS, signal);
  }
}

async function markPaused(deps: Deps, id: string): Promise<void> {
  const found = await deps.mailboxes.get(id);
  if (!found?.mailbox.paused) return;
  const state: MailboxState = { ...found.state, status: "paused", problem: null, since: new Date().toISOString() };
  await deps.mailboxes.observe([{ id, state }]);
  deps.emit({ kind: "mailbox.status", mailbox: id, status: "paused" });
}

function reportFailure(deps: Deps, what: string, error: unknown): void {
  const { code, message } = asProblem(error);
  deps.emit({ kind: "service.failed", what, failure: { code, cause: message } });
}
