/** What the subscriptions of this node say of themselves: kept in memory, said as facts, written to the store a moment later. */
import type { MailboxState, MailboxStatus } from "../../shared/contract/mailbox.ts";
import type { Problem } from "../../shared/contract/problem.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Mailboxes, MailboxWithState } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { slept } from "../../shared/time.ts";

/** How often changes are written. */
const WRITE_EVERY_MS = 200;
/** How long `lastVerifiedAt` alone may be behind in the store: it changes all the time and is worth little. */
const VERIFIED_EVERY_MS = 60_000;

/** The pen of one subscription. Nothing here waits or throws. */
export interface StatePen {
  readonly state: MailboxState;
  /** A new status; `problem` null clears the last one, `retryAt` says when it is tried again. */
  to(status: MailboxStatus, problem: Problem | null, retryAt?: Date): void;
  verified(): void;
  arrived(): void;
  loggedIn(): void;
  /** Counts a refused login and returns how many there were since the last success or change. */
  loginFailed(): number;
}

export interface StateBoard {
  /** A pen for one mailbox in its present revision, beginning with what the store last knew of it. */
  pen(of: MailboxWithState): StatePen;
  /** Nothing more is written for this mailbox. */
  forget(mailbox: string): void;
  /** Writes what changed until the signal aborts, and once more then. A failed write is tried again with the next. */
  run(signal: AbortSignal): Promise<void>;
}

type Deps = { mailboxes: Pick<Mailboxes, "observe">; emit: Emit; node: string };
type Slot = { revision: number; state: MailboxState; dirty: boolean };

export function stateBoard(deps: Deps): StateBoard {
  const slots = new Map<string, Slot>();
  let failing = false;
  let allWrittenAt = Date.now();

  const write = async (now: number) => {
    // All at once: a thousand idle mailboxes, each at its own time, would keep the store busy with next to nothing.
    const all = now - allWrittenAt >= VERIFIED_EVERY_MS;
    const due = [...slots].filter(([, slot]) => slot.dirty || all);
    if (due.length === 0) return;
    for (const [, slot] of due) slot.dirty = false;
    try {
      await deps.mailboxes.observe(due.map(([id, { revision, state }]) => ({ id, revision, state })));
      if (all) allWrittenAt = now;
      failing = false;
    } catch (error) {
      for (const [, slot] of due) slot.dirty = true;
      if (!failing) deps.emit({ kind: "service.failed", what: "writing mailbox states", failure: failureOf(error) });
      failing = true;
    }
  };

  return {
    pen({ mailbox: { id, revision }, state }) {
      const slot: Slot = { revision, state: { ...state, node: deps.node }, dirty: true };
      slots.set(id, slot);
      return pen(deps.emit, id, slot);
    },
    forget(mailbox) {
      slots.delete(mailbox);
    },
    async run(signal) {
      while (await slept(WRITE_EVERY_MS, signal)) await write(Date.now());
      await write(Date.now());
    },
  };
}

function pen(emit: Emit, mailbox: string, slot: Slot): StatePen {
  const set = (change: Partial<MailboxState>) => {
    slot.state = { ...slot.state, ...change };
    slot.dirty = true;
  };
  return {
    get state() {
      return slot.state;
    },
    to(status, problem, retryAt) {
      const changed = status !== slot.state.status || problem?.code !== slot.state.problem?.code;
      const shown = problem && { ...problem.view(), retryAt: retryAt?.toISOString() ?? null };
      set({ status, problem: shown, since: changed ? new Date().toISOString() : slot.state.since });
      if (!changed) return;
      emit({
        kind: "mailbox.status",
        mailbox,
        status,
        ...(problem && { failure: failureOf(problem) }),
        ...(retryAt && { retryAt: retryAt.toISOString() }),
      });
    },
    verified() {
      slot.state = { ...slot.state, lastVerifiedAt: new Date().toISOString() };
    },
    arrived: () => set({ lastArrivalAt: new Date().toISOString() }),
    loggedIn: () => set({ failedLogins: 0 }),
    loginFailed() {
      set({ failedLogins: slot.state.failedLogins + 1 });
      return slot.state.failedLogins;
    },
  };
}

function failureOf(error: unknown) {
  const { code, message } = asProblem(error);
  return { code, cause: message };
}
