/**
 * The subscriptions of this node. Whenever a mailbox changes, it compares this mailbox with its running subscription. A
 * comparison of all is rare.
 */
import { setImmediate } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { childSignal } from "../../shared/concurrency/abort.ts";
import { wakeup } from "../../shared/concurrency/wakeup.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Applications } from "../../shared/store/sealed-applications.ts";
import type { Mailboxes } from "../../shared/store/store.ts";
import { sleep } from "../../shared/time.ts";
import type { Ownership } from "../lease/acquire.ts";
import type { Lease } from "../lease/lease.ts";
import { type Changes, followChanges } from "./changes.ts";
import { ANY_APPLICATION, runSubscription, type RunSubscriptionDeps } from "./subscription.ts";

export interface MailboxSubscriptions {
  /** Keeps a subscription for each mailbox of this node until the signal aborts, then closes all connections. */
  run(signal: AbortSignal): Promise<void>;
  /** A mailbox or an application changed: looks for changes at once. */
  wake(): void;
  connections(): { subscriptions: number; open: number };
  /** How many enabled mailboxes had no node at the last comparison, because all nodes are full. */
  unserved(): number;
}

type MailboxSubscriptionsDeps = RunSubscriptionDeps & {
  ownership: Ownership;
  mailboxes: Pick<Mailboxes, "get" | "followEnabled">;
  applications: Pick<Applications, "listVersions">;
};
/** `applications` are the versions of all applications when it began. */
type RunningSubscription = {
  revision: number;
  applications: ReadonlyMap<string, string>;
  stop: AbortController;
  ended: Promise<void>;
};

/** How often it looks for changes without an event, and how often while it releases mailboxes to other nodes. */
const LOOK_EVERY_MS = 15_000;
const LOOK_SOON_MS = 500;
/** After so many mailboxes others get their turn, so that the first ones connect while thousands are still begun. */
const BEGUN_TOGETHER = 20;
/** How long it waits before it restarts a subscription whose store failed. */
const RESTART_AFTER_MS = 2_000;

export function mailboxSubscriptions(deps: MailboxSubscriptionsDeps): MailboxSubscriptions {
  const changes = followChanges(deps);
  const subscriptions = runningSubscriptions(deps, changes);
  const wakeups = wakeup();
  let [unserved, surplus] = [0, 0];

  const compareAll = async (signal: AbortSignal) => {
    const { enabled } = changes;
    const share = deps.ownership.share([...enabled.keys()], subscriptions.ids());
    if (share.unserved > 0 !== unserved > 0) emitUnserved(deps, share.unserved);
    unserved = share.unserved;
    surplus = share.surplus;
    await subscriptions.compare([...new Set([...subscriptions.ids(), ...enabled.keys()])], share.mine, signal);
  };

  /** Resolves with the time until the next look. */
  const reconcile = async (signal: AbortSignal): Promise<number> => {
    await changes.read();
    const changed = [...changes.changed];
    const mine = changes.concernAll || surplus > 0 ? undefined : deps.ownership.claim(changed);
    if (mine) await subscriptions.compare(changed, mine, signal);
    else await compareAll(signal);
    changes.settle();
    return surplus > 0 ? LOOK_SOON_MS : LOOK_EVERY_MS;
  };

  return {
    async run(signal) {
      deps.ownership.onChange(wakeups.trigger);
      while (!signal.aborted) {
        const wait = await reconcile(signal).catch((error: unknown) => {
          reportFailure(deps, "reading which mailboxes are enabled", error);
          return RESTART_AFTER_MS;
        });
        await wakeups.wait(wait, signal);
      }
      await subscriptions.awaitEnd();
    },
    wake: wakeups.trigger,
    connections: () => ({
      subscriptions: subscriptions.count,
      open: [...deps.watched.values()].filter((connection) => connection.open).length,
    }),
    unserved: () => unserved,
  };
}

/** The subscriptions that run, each with what it began with. */
function runningSubscriptions(given: MailboxSubscriptionsDeps, changes: Changes) {
  /** The applications that mailboxes of running subscriptions name. */
  const applicationOf = new Map<string, string>();
  const deps = { ...given, noteApplication: (id: string, name: string) => void applicationOf.set(id, name) };
  const running = new Map<string, RunningSubscription>();
  /** Stopped subscriptions that are closing their connections. Only the end of the process waits for them. */
  const ending = new Set<Promise<void>>();

  const start = (id: string, of: Pick<RunningSubscription, "revision" | "applications">, signal: AbortSignal) => {
    const stop = new AbortController();
    const until = childSignal(signal, stop.signal);
    const ended = supervise(deps, id, until.signal).finally(() => until[Symbol.dispose]());
    running.set(id, { ...of, stop, ended });
  };

  /**
   * The mailbox may get a new subscription at once, because the lease makes the new one wait until this one has ended.
   */
  const end = (id: string, { stop, ended }: RunningSubscription, isEnabled: boolean) => {
    running.delete(id);
    applicationOf.delete(id);
    stop.abort(new DOMException("The subscription is no longer wanted", "AbortError"));
    const done = ended
      .then(() => (isEnabled ? undefined : emitPaused(deps, id)))
      .catch((error: unknown) => reportFailure(deps, `the end of the subscription of mailbox ${id}`, error))
      .finally(() => ending.delete(done));
    ending.add(done);
  };

  const compare = async (ids: readonly string[], mine: ReadonlySet<string>, signal: AbortSignal) => {
    for (const [n, id] of ids.entries()) {
      if (n % BEGUN_TOGETHER === BEGUN_TOGETHER - 1) await setImmediate();
      const one = running.get(id);
      const revision = changes.enabled.get(id);
      const isWanted = revision !== undefined && mine.has(id);
      const isOutdated = one !== undefined && (one.revision !== revision || usesOtherApplication(id, one));
      if (one && (!isWanted || isOutdated)) end(id, one, revision !== undefined);
      if (isWanted && !running.has(id) && !signal.aborted)
        start(id, { revision, applications: changes.applications }, signal);
    }
  };

  const usesOtherApplication = (id: string, one: RunningSubscription) => {
    const name = applicationOf.get(id);
    if (name === ANY_APPLICATION) return !isDeepStrictEqual(changes.applications, one.applications);
    return name !== undefined && changes.applications.get(name) !== one.applications.get(name);
  };

  return {
    get count() {
      return running.size;
    },
    /** The mailboxes with a subscription. */
    ids: () => new Set(running.keys()),
    /** Begins and ends subscriptions of these mailboxes, so that those run that are enabled and `mine`, as they are now. */
    compare,
    async awaitEnd() {
      await Promise.all([...running.values()].map(({ ended }) => ended));
      await Promise.all(ending);
    },
  };
}

/**
 * Acquires the lease and runs the subscription again and again until the signal aborts. It reports a failing store and
 * continues.
 */
async function supervise(deps: MailboxSubscriptionsDeps, id: string, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await deps.ownership.leases.hold(id, (lease) => subscribe(deps, id, lease), signal);
    } catch (error) {
      if (!signal.aborted) reportFailure(deps, `the subscription of mailbox ${id}`, error);
    }
    await sleep(RESTART_AFTER_MS, signal);
  }
}

/** After the end, its state is not written any more. That is up to the next holder of the lease. */
async function subscribe(deps: MailboxSubscriptionsDeps, id: string, lease: Lease): Promise<void> {
  try {
    await runSubscription(deps, id, lease);
  } finally {
    deps.board.forget(id);
    deps.connections.forget(id);
  }
}

async function emitPaused(deps: MailboxSubscriptionsDeps, id: string): Promise<void> {
  const found = await deps.mailboxes.get(id);
  if (!found?.mailbox.paused) return;
  deps.emit({ kind: "mailbox.status", mailbox: id, status: "paused" });
}

/** Reported when it begins and when it ends. The metrics have the number in between. */
function emitUnserved({ emit }: MailboxSubscriptionsDeps, unserved: number): void {
  const about =
    unserved > 0
      ? `${unserved} mailboxes have no node, because all nodes are full. Start another API node, or raise MAILBOXES_PER_NODE`
      : "Every mailbox has a node again";
  emit({ kind: "service.warned", about });
}

function reportFailure(deps: MailboxSubscriptionsDeps, what: string, error: unknown): void {
  const { code, message } = asProblem(error);
  deps.emit({ kind: "service.failed", what, failure: { code, cause: message } });
}
