/**
 * The open maildrops. A POP3 server opens a maildrop for one session at a time (RFC 1939 section 4). So all who need
 * the same one in this process take turns, and a session is kept for a moment for the next caller.
 */
import { onAbort } from "../../concurrency/abort.ts";
import { keyedSemaphore } from "../../concurrency/keyed-semaphore.ts";
import { Problem } from "../../contract/problem.ts";
import { withTimeout } from "../../time.ts";
import { openSession, type Pop3Deps, type Pop3Mailbox } from "./client.ts";
import { type Listing, listMaildrop } from "./listing.ts";
import type { Session } from "./session.ts";

/** An open session and its listing. A maildrop does not change while a session lasts. */
export type Maildrop = { session: Session; listing: () => Promise<Listing> };

export interface MaildropPool {
  /**
   * Uses the maildrop alone while `work` runs. `fresh` asks for a new session, which sees what arrived since the last
   * one. When the signal aborts meanwhile, the session is cut, and then nothing is deleted.
   */
  use<T>(
    by: { deps: Pop3Deps; mailbox: Pop3Mailbox; fresh: boolean },
    work: (maildrop: Maildrop) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T>;
  isOpen(mailbox: Pop3Mailbox): boolean;
  /** Ends the kept session of this mailbox, if there is one, once nobody uses it. Never throws. */
  close(mailbox: Pop3Mailbox): Promise<void>;
}

type RetainedSession = Maildrop & { owner: string; timer?: NodeJS.Timeout };
type Use = { deps: Pop3Deps; mailbox: Pop3Mailbox; fresh: boolean };

/** How long a session is kept: after a run come downloads, and after a download the next. */
const LINGER_MS = 1_500;
/** How long to wait for others who have the maildrop, and how long it may be used after that. */
const MAX_WAIT_MS = 60 * 60 * 1000;
const MAX_USE_MS = 60 * 60 * 1000;

export function maildropPool(lingerMs = LINGER_MS): MaildropPool {
  const locks = keyedSemaphore(1);
  /** By the key of the maildrop. Only the holder of its lock changes it. */
  const retained = new Map<string, RetainedSession>();

  const closeRetained = async (key: string) => {
    const kept = retained.get(key);
    retained.delete(key);
    clearTimeout(kept?.timer);
    // Nothing is marked for deletion in a kept session, so a failed QUIT loses nothing.
    if (kept?.session.open) await kept.session.quit().catch(() => undefined);
  };

  const closeWhenFree = async (key: string) => {
    using _ = await locks.acquire(key, {});
    await closeRetained(key);
  };

  const openMaildrop = async (key: string, { deps, mailbox, fresh }: Use, signal: AbortSignal) => {
    const owner = getOwner(mailbox);
    const kept = retained.get(key);
    clearTimeout(kept?.timer);
    if (kept && !fresh && kept.owner === owner && kept.session.open) return kept;
    await closeRetained(key);
    const session = await openSession(deps, mailbox, signal);
    let listing: Promise<Listing> | undefined;
    const opened: RetainedSession = { owner, session, listing: () => (listing ??= listMaildrop(session)) };
    retained.set(key, opened);
    return opened;
  };

  const useLocked = async <T>(
    key: string,
    by: Use,
    work: (maildrop: Maildrop) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> => {
    const maildrop = await openMaildrop(key, by, signal);
    using _ = onAbort(signal, () => maildrop.session.destroy(new Problem("connect", "It was called off")));
    try {
      return await work(maildrop);
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    } finally {
      if (!maildrop.session.open) retained.delete(key);
      else maildrop.timer = setTimeout(() => void closeWhenFree(key), lingerMs);
    }
  };

  return {
    async use(by, work, signal) {
      const key = getMaildropKey(by.mailbox);
      const lock = await locks.acquire(key, { ms: MAX_WAIT_MS, late: heldByOthers }, signal);
      const result = useLocked(key, by, work, signal).finally(lock.release);
      return withTimeout(MAX_USE_MS, "Using the maildrop", result, signal);
    },
    isOpen(mailbox) {
      const kept = retained.get(getMaildropKey(mailbox));
      return kept !== undefined && kept.owner === getOwner(mailbox) && kept.session.open;
    },
    async close(mailbox) {
      const key = getMaildropKey(mailbox);
      if (retained.get(key)?.owner === getOwner(mailbox)) await closeWhenFree(key);
    },
  };
}

function heldByOthers(): Problem {
  return new Problem("timeout", "Other users of the maildrop took too long");
}

/** Two mailboxes may be the same maildrop. */
function getMaildropKey({ receive }: Pop3Mailbox): string {
  return JSON.stringify([receive.host.toLowerCase(), receive.auth.user]);
}

/** Another revision may have other credentials or another server. */
function getOwner({ id, revision }: Pop3Mailbox): string {
  return JSON.stringify([id, revision]);
}
