/**
 * What the mailboxes of a process have in common when they listen to Exchange: mailboxes of one account share hanging connections, few
 * as servers allow few (10; Exchange 2013: 3), with at most 200 subscriptions each.
 */
import type { FolderId } from "ews-javascript-api";
import { Problem } from "../../../contract/problem.ts";
import { backoff, slept } from "../../../time.ts";
import { fateOfProblem } from "./failure-kinds.ts";
import type { Follower } from "../listening.ts";
import { Mishaps } from "./failures.ts";
import type { Stirred } from "../soap/notifications.ts";
import { pull, type PullTimes } from "./pull.ts";
import type { EwsSession } from "../client/session.ts";
import { type Ending, EventStream, type StreamTimes } from "./stream.ts";

export interface EwsHints {
  /**
   * Follows folders of a mailbox until the signal aborts. `hint` is called whenever the connection was opened (again) and whenever
   * something appeared: what lies in the folders is the truth, a hint says only to look. `told` says that the server was heard, and
   * whether it notifies by itself; where it does not, hints may come late or not at all. Throws a Problem only when the mailbox must
   * be given up: a refused login, no such mailbox, a server that cannot be heard for minutes. At the abort it throws the reason.
   */
  follow(
    session: EwsSession,
    folders: FolderId[] | "all",
    hint: (folderIds: Stirred) => void,
    told: Follower["told"],
    signal: AbortSignal,
  ): Promise<never>;
}

export type HubLimits = StreamTimes & PullTimes & { perStream: number; streams: number };

const SECOND = 1000;
const MINUTE = 60 * SECOND;

const LIMITS: HubLimits = {
  lifeMs: 24 * MINUTE,
  silenceMs: 95 * SECOND,
  gatherMs: SECOND,
  settleMs: 5 * SECOND,
  patienceMs: MINUTE,
  backoff: backoff.reconnect,
  everyMs: 15 * SECOND,
  againMs: 15 * MINUTE,
  perStream: 200,
  streams: 10,
};

/** How many connections a server allows is found out again after this time. */
const LEARNED_MS = 15 * MINUTE;

type Held = { stream: EventStream; group: string };
type Account = { held: Set<Held>; most: number; learnedAt: number };

/** The hub of a process; `wishes` shorten its times in tests. */
export function ewsHints(wishes: Partial<HubLimits> = {}): EwsHints {
  const limits = { ...LIMITS, ...wishes };
  const accounts = new Map<string, Account>();

  /** A stream with room for a mailbox of this group, a new one where more are allowed, or none. */
  function streamFor(name: string, group: string, anchor: string): Held | undefined {
    const account = accounts.get(name) ?? { held: new Set<Held>(), most: limits.streams, learnedAt: 0 };
    accounts.set(name, account);
    for (const one of account.held) {
      if (one.group === group && one.stream.seats < limits.perStream) return one;
    }
    if (performance.now() - account.learnedAt > LEARNED_MS) account.most = limits.streams;
    if (account.held.size >= account.most) return undefined;
    const made = { stream: new EventStream(limits, anchor), group };
    account.held.add(made);
    return made;
  }

  function leave(name: string, held: Held): void {
    const account = accounts.get(name);
    if (!account || held.stream.seats > 0) return;
    account.held.delete(held);
    if (account.held.size === 0 && account.most === limits.streams) accounts.delete(name);
  }

  /** The server allows no connection more than those that were open when it refused this one. */
  function crowded(name: string, held: Held): void {
    const account = accounts.get(name);
    if (!account?.held.delete(held)) return;
    account.most = account.held.size;
    account.learnedAt = performance.now();
  }

  /** Hears by streams for as long as that works; returns when another way is needed. */
  async function stream(follower: Follower, signal: AbortSignal): Promise<void> {
    const { session } = follower;
    const mishaps = new Mishaps(session, limits.patienceMs);
    while (!mishaps.hopeless) {
      const alone = mishaps.alone ? session.anchor : "";
      const held = streamFor(session.account, [session.url, session.grouping, alone].join(" "), session.anchor);
      if (!held) return;
      const startedAt = performance.now();
      const ending = await carried(session.account, held, follower, signal);
      if (ending === "refused") return;
      mishaps.add(ending, performance.now() - startedAt);
      if (mishaps.inARow > 0) await slept(limits.backoff(mishaps.inARow), signal);
      signal.throwIfAborted();
    }
  }

  /** How the following over a stream ended; a Problem that concerns the mailbox or its server as such is returned too. */
  async function carried(name: string, held: Held, follower: Follower, signal: AbortSignal): Promise<Ending | Problem> {
    try {
      const ending = await held.stream.carry(follower, signal);
      if (ending === "crowded") crowded(name, held);
      return ending;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof Problem)) throw error;
      const fate = fateOfProblem(error);
      // Not said of the stream, which others hear by, but of any request more: the account has to be left alone for a while.
      return fate === undefined || fate === "crowded" ? error : fate;
    } finally {
      leave(name, held);
    }
  }

  return {
    async follow(session, folders, hint, told, signal) {
      const follower: Follower = { session, folders, hint, told };
      for (;;) {
        await stream(follower, signal);
        const startedAt = performance.now();
        await pull(limits, follower, signal);
        // Neither is to be had: the follower looks by itself until streams are tried again.
        await slept(Math.max(0, startedAt + limits.againMs - performance.now()), signal);
        signal.throwIfAborted();
      }
    },
  };
}
