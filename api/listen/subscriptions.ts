/** The subscriptions of this node: what should be listened to and what is, brought together whenever something changes. */
import { asProblem } from "../../shared/contract/problem.ts";
import type { Mailboxes } from "../../shared/store/store.ts";
import { slept } from "../../shared/time.ts";
import type { Ownership } from "../lease/acquire.ts";
import { keepListening, type Listening } from "./subscription.ts";

export interface Subscriptions {
  /** Listens to every wanted mailbox until the signal aborts, then closes all connections. */
  run(signal: AbortSignal): Promise<void>;
  /** Something about the mailboxes changed: look now. */
  wake(): void;
  connections(): { subscriptions: number; open: number };
  /** How many wanted mailboxes no node had room for at the last look. */
  unserved(): number;
}

type Deps = Listening & { ownership: Ownership; mailboxes: Pick<Mailboxes, "get" | "wanted"> };
type Running = { revision: number; stop: AbortController; ended: Promise<void> };

/** A look at the wanted mailboxes even when nobody called, and while mailboxes are being given up to other nodes. */
const LOOK_EVERY_MS = 15_000;
const LOOK_SOON_MS = 500;
/** A subscription whose store failed is started again after this. */
const RESTART_AFTER_MS = 2_000;

export function subscriptions(deps: Deps): Subscriptions {
  const running = new Map<string, Running>();
  let woken = new AbortController();
  let unserved = 0;

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

  /** Resolves with when to look again. */
  const reconcile = async (signal: AbortSignal): Promise<number> => {
    const wanted = new Map((await deps.mailboxes.wanted()).map(({ id, revision }) => [id, revision]));
    const { mine, surplus, ...left } = deps.ownership.share([...wanted.keys()], new Set(running.keys()));
    if (left.unserved > 0 !== unserved > 0) sayUnserved(deps, left.unserved);
    unserved = left.unserved;
    const over = [...running].filter(([id, { revision }]) => wanted.get(id) !== revision || !mine.has(id));
    await Promise.all(over.map(([id, one]) => end(id, one)));
    await Promise.all(over.filter(([id]) => !wanted.has(id)).map(([id]) => sayPaused(deps, id)));
    for (const id of mine) if (!running.has(id) && !signal.aborted) start(id, wanted.get(id) ?? 0, signal);
    return surplus > 0 ? LOOK_SOON_MS : LOOK_EVERY_MS;
  };

  return {
    async run(signal) {
      deps.ownership.onChange(() => woken.abort());
      for (;;) {
        woken = new AbortController();
        const wait = await reconcile(signal).catch((error: unknown) => {
          reportFailure(deps, "looking for wanted mailboxes", error);
          return RESTART_AFTER_MS;
        });
        await slept(wait, AbortSignal.any([signal, woken.signal]));
        if (signal.aborted) break;
      }
      await Promise.all([...running.values()].map(({ ended }) => ended));
    },
    wake: () => woken.abort(),
    connections: () => ({
      subscriptions: running.size,
      open: [...deps.watched.values()].filter((connection) => connection.open).length,
    }),
    unserved: () => unserved,
  };
}

/** Holds and listens again and again until the signal aborts; a failing store is reported and ridden out. */
async function supervised(deps: Deps, id: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await deps.ownership.leases.hold(id, (lease) => keepListening(deps, id, lease), signal);
    } catch (error) {
      if (!signal.aborted) reportFailure(deps, `the subscription of mailbox ${id}`, error);
    }
    await slept(RESTART_AFTER_MS, signal);
  }
}

async function sayPaused(deps: Deps, id: string): Promise<void> {
  const found = await deps.mailboxes.get(id);
  if (!found?.mailbox.paused) return;
  deps.emit({ kind: "mailbox.status", mailbox: id, status: "paused" });
}

/** Said when it begins and when it is over; how many there are meanwhile the metrics tell. */
function sayUnserved({ emit }: Deps, unserved: number): void {
  const about =
    unserved > 0
      ? `Nobody listens to ${unserved} mailboxes: all nodes are full. Start another API node, or raise MAILBOXES_PER_NODE`
      : "There is a node again for every mailbox";
  emit({ kind: "service.warned", about });
}

function reportFailure(deps: Deps, what: string, error: unknown): void {
  const { code, message } = asProblem(error);
  deps.emit({ kind: "service.failed", what, failure: { code, cause: message } });
}
