/**
 * How many requests go out at once for one mailbox, and when. Graph allows an application four at once for each mailbox
 * and answers the fifth with 429, whatever process sends it. So the nodes share the slots. One of the four is kept free of
 * downloads, so that looking for mail never waits for a large message.
 */
import { createHash } from "node:crypto";
import { keyedSemaphore } from "../../../concurrency/keyed-semaphore.ts";
import type { Permit } from "../../../concurrency/semaphore.ts";
import { Problem } from "../../../contract/problem.ts";
import { clock, sleep } from "../../../time.ts";
import { acquireSlot, type RequestSlots } from "./slots.ts";

export type RequestKind = "short" | "download";

export interface RequestGate {
  /**
   * Resolves when a request for this mailbox may go out. While Graph wants none, it waits for up to MAX_WAIT_MS; throws
   * `throttled` with the time if that is longer.
   */
  enter(mailbox: string, kind: RequestKind, signal: AbortSignal): Promise<Permit>;
  /** Graph wants no request for this mailbox before `until` (ms since 1970). `crowded`: too many were there at once. */
  pause(mailbox: string, until: number, crowded: boolean): void;
}

const MAX_REQUESTS = 4;
const MAX_DOWNLOADS = 3;
/** After two answers in a row that too many requests were there at once, for an hour. */
const FEWER_REQUESTS = 2;
const FEWER_MS = 3_600_000;
const CROWDED_TWICE_MS = 60_000;
/** A longer wait ends the work, which then begins again at that time. */
const MAX_WAIT_MS = 30_000;
/** Longer than four large downloads of one mailbox take. */
const TURN_MS = 10 * 60_000;

type Pace = { until: number; crowdedAt: number; fewerUntil: number };

/** The gate for the mailboxes of one process. Without `slots` it shares nothing with other processes. */
export function requestGate(slots?: RequestSlots): RequestGate {
  const requests = keyedSemaphore(MAX_REQUESTS);
  const downloads = keyedSemaphore(MAX_DOWNLOADS);
  const paces = new Map<string, Pace>();

  const forgetOld = (now: number) => {
    for (const [key, { until, fewerUntil }] of paces) if (Math.max(until, fewerUntil) < now) paces.delete(key);
  };

  async function awaitPause(mailbox: string, signal: AbortSignal): Promise<void> {
    for (;;) {
      const until = paces.get(mailbox)?.until ?? 0;
      const ms = until - clock.now();
      if (ms <= 0) return;
      if (ms > MAX_WAIT_MS) throw toThrottledProblem(until);
      if (!(await sleep(ms, signal))) signal.throwIfAborted();
    }
  }

  /** A permit of this process, and with it a slot that all nodes share. */
  async function takeShared(own: Permit, name: string, limit: number, signal: AbortSignal): Promise<Permit> {
    if (!slots) return own;
    try {
      return joined(await acquireSlot(slots, { name, limit, waitMs: TURN_MS }, signal), own);
    } catch (error) {
      own.release();
      throw error;
    }
  }

  async function take(mailbox: string, signal: AbortSignal): Promise<Permit> {
    for (;;) {
      await awaitPause(mailbox, signal);
      const size = (paces.get(mailbox)?.fewerUntil ?? 0) > clock.now() ? FEWER_REQUESTS : MAX_REQUESTS;
      const own = await requests.acquire(mailbox, { ms: TURN_MS, late: toBusyProblem, size }, signal);
      const permit = await takeShared(own, slotName("requests", mailbox), size, signal);
      // Graph may have asked for a pause while this request waited for its turn.
      if ((paces.get(mailbox)?.until ?? 0) <= clock.now()) return permit;
      permit.release();
    }
  }

  async function takeForDownload(mailbox: string, signal: AbortSignal): Promise<Permit> {
    const own = await downloads.acquire(mailbox, { ms: TURN_MS, late: toBusyProblem }, signal);
    const download = await takeShared(own, slotName("downloads", mailbox), MAX_DOWNLOADS, signal);
    try {
      return joined(await take(mailbox, signal), download);
    } catch (error) {
      download.release();
      throw error;
    }
  }

  return {
    async enter(mailbox, kind, signal) {
      signal.throwIfAborted();
      return kind === "short" ? take(mailbox, signal) : takeForDownload(mailbox, signal);
    },
    pause(mailbox, until, crowded) {
      const now = clock.now();
      const before = paces.get(mailbox) ?? { until: 0, crowdedAt: -Infinity, fewerUntil: 0 };
      const again = crowded && now - before.crowdedAt < CROWDED_TWICE_MS;
      paces.set(mailbox, {
        until: Math.max(before.until, until),
        crowdedAt: crowded ? now : before.crowdedAt,
        fewerUntil: again ? now + FEWER_MS : before.fewerUntil,
      });
      forgetOld(now - CROWDED_TWICE_MS);
    },
  };
}

/** Both permits as one. */
function joined(one: Permit, other: Permit): Permit {
  const release = () => {
    one.release();
    other.release();
  };
  return { release, [Symbol.dispose]: release };
}

/** A short name for the store, which says nothing of the mailbox. */
function slotName(kind: string, mailbox: string): string {
  return `graph-${kind}-${createHash("sha256").update(mailbox).digest("base64url").slice(0, 22)}`;
}

function toThrottledProblem(until: number): Problem {
  return new Problem("throttled", "Microsoft Graph asked to slow down", { retry: new Date(until) });
}

function toBusyProblem(): Problem {
  return new Problem("timeout", "The mailbox's earlier requests to Microsoft Graph did not end in time");
}
