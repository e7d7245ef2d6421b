/**
 * Who has a maildrop open. A POP3 server gives it to one session at a time (RFC 1939 section 4), so everybody in this process who
 * needs the same one takes turns, and a session is kept for a moment for whoever comes next.
 */
import { Problem } from "../../contract/problem.ts";
import { within } from "../../time.ts";
import { openSession, type Pop3Deps, type Pop3Mailbox } from "./client.ts";
import { type Listing, listingOf } from "./listing.ts";
import type { Session } from "./session.ts";

/** An open session with what it sees: a maildrop does not change while a session lasts. */
export type Maildrop = { session: Session; listing: () => Promise<Listing> };

export interface Maildrops {
  /**
   * Has the maildrop for itself while `work` runs. `fresh` asks for a session that begins now, which sees what arrived since the
   * last one. When the signal aborts in the middle the session is cut: nothing is deleted then.
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

type Kept = Maildrop & { owner: string; timer?: ReturnType<typeof setTimeout> };
type Slot = { last: Promise<unknown>; kept?: Kept | undefined; waiting: number };

/** How long a session is kept: a poll is followed by downloads, a download by the next. */
const LINGER_MS = 1_500;
const LONGEST_TURN_MS = 60 * 60 * 1000;

export function maildrops(lingerMs = LINGER_MS): Maildrops {
  const slots = new Map<string, Slot>();

  const turn = <T>(key: string, work: (slot: Slot) => Promise<T>): Promise<T> => {
    const slot = slots.get(key) ?? { last: Promise.resolve(), waiting: 0 };
    slots.set(key, slot);
    slot.waiting += 1;
    const mine = slot.last.then(() => work(slot));
    const over = () => {
      slot.waiting -= 1;
      if (slot.waiting === 0 && !slot.kept) slots.delete(key);
    };
    slot.last = mine.then(over, over);
    return mine;
  };

  const endKept = async (slot: Slot) => {
    const { kept } = slot;
    slot.kept = undefined;
    clearTimeout(kept?.timer);
    // Nothing is marked for deletion in a kept session: there is nothing to lose when the farewell fails.
    if (kept?.session.open) await kept.session.quit().catch(() => undefined);
  };

  const opened = async (
    slot: Slot,
    by: { deps: Pop3Deps; mailbox: Pop3Mailbox; fresh: boolean },
    signal: AbortSignal,
  ) => {
    const owner = ownerOf(by.mailbox);
    clearTimeout(slot.kept?.timer);
    if (slot.kept && !by.fresh && slot.kept.owner === owner && slot.kept.session.open) return slot.kept;
    await endKept(slot);
    const session = await openSession(by.deps, by.mailbox, signal);
    let listed: Promise<Listing> | undefined;
    slot.kept = { owner, session, listing: () => (listed ??= listingOf(session)) };
    return slot.kept;
  };

  return {
    use(by, work, signal) {
      const key = keyOf(by.mailbox);
      const mine = turn(key, async (slot) => {
        signal.throwIfAborted();
        const kept = await opened(slot, by, signal);
        const stop = () => kept.session.cut(new Problem("connect", "It was called off"));
        signal.addEventListener("abort", stop, { once: true });
        try {
          return await work(kept);
        } catch (error) {
          signal.throwIfAborted();
          throw error;
        } finally {
          signal.removeEventListener("abort", stop);
          if (!kept.session.open) slot.kept = undefined;
          else kept.timer = setTimeout(() => void turn(key, endKept), lingerMs);
        }
      });
      return within(LONGEST_TURN_MS, "Waiting for the maildrop", mine, signal);
    },
    isOpen(mailbox) {
      const kept = slots.get(keyOf(mailbox))?.kept;
      return kept !== undefined && kept.owner === ownerOf(mailbox) && kept.session.open;
    },
    async close(mailbox) {
      const key = keyOf(mailbox);
      if (slots.get(key)?.kept?.owner === ownerOf(mailbox)) await turn(key, endKept);
    },
  };
}

/** Two mailboxes may be the same maildrop. */
function keyOf({ receive }: Pop3Mailbox): string {
  return JSON.stringify([receive.host.toLowerCase(), receive.auth.user]);
}

/** Another revision may have other credentials or another server. */
function ownerOf({ id, revision }: Pop3Mailbox): string {
  return JSON.stringify([id, revision]);
}
