/**
 * The states that this node's subscriptions report: kept in memory, reported as facts, and written to the store a
 * moment later.
 */
import { setImmediate } from "node:timers/promises";
import { wakeup } from "../../shared/concurrency/wakeup.ts";
import {
  CONNECTED_STATUSES,
  type MailboxState,
  type MailboxStatus,
  type Receive,
} from "../../shared/contract/mailbox.ts";
import type { Problem } from "../../shared/contract/problem.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Mailboxes, MailboxWithState } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock, sleep } from "../../shared/time.ts";

/** A change is written after this time, together with others. */
const WRITE_AFTER_MS = 200;
/** How late `lastVerifiedAt` alone may be in the store. It changes all the time and is not worth a write. */
const VERIFIED_AFTER_MS = 60_000;
const VERIFIED_TOGETHER_MS = 2_000;
/** States that are written in one go. */
const BATCH = 500;

/** How one subscription reports its state. Nothing here waits or throws. */
export interface StateReporter {
  readonly state: MailboxState;
  /** Sets a new status. `problem` null clears the last problem; `retryAt` is the time of the next attempt. */
  setStatus(status: MailboxStatus, problem: Problem | null, retryAt?: Date): void;
  /**
   * While connected: the problem of folders that cannot be opened, null if all can. If no folder can be watched, a
   * person is needed.
   */
  setFolders(problem: Problem | null, watched: boolean): void;
  markVerified(): void;
  markArrival(): void;
  clearFailedLogins(): void;
  /**
   * Counts a refused login and returns how many there were since the last success or change. `times` is that number if
   * the login gate counts it.
   */
  countFailedLogin(times?: number): number;
}

/** A mailbox of this node. `initializing`, as long as this node has reported nothing about it. */
export type HeldMailbox = { id: string; receive: Pick<Receive, "mode" | "poll">; state: MailboxState };

export interface MailboxStates {
  /**
   * A reporter for one mailbox in its present revision. It starts with the state that the store has. If an earlier
   * subscription was connected then, it starts as `initializing`.
   */
  reporter(of: MailboxWithState): StateReporter;
  /** The mailboxes whose subscriptions run here. */
  held(): Iterable<HeldMailbox>;
  /** Stops writing the state of this mailbox. */
  forget(mailbox: string): void;
  /**
   * Writes changed states until the signal aborts, and once more at the end. A failed write is tried again with the
   * next one.
   */
  run(signal: AbortSignal): Promise<void>;
}

type MailboxStatesDeps = { mailboxes: Pick<Mailboxes, "saveStates">; emit: Emit; node: string };
type Slot = {
  id: string;
  revision: number;
  receive: HeldMailbox["receive"];
  state: MailboxState;
  /** When the subscription began here; undefined since it has reported something. */
  silentSince: string | undefined;
};

export function mailboxStates(deps: MailboxStatesDeps): MailboxStates {
  const slots = new Map<string, Slot>();
  const due = dueSlots();
  let failing = false;

  const write = async (batch: Slot[]) => {
    // All in one write: if a thousand mailboxes were written one by one, the store would be busy all the time.
    const present = batch.filter((slot) => slots.get(slot.id) === slot);
    if (present.length === 0) return;
    try {
      await deps.mailboxes.saveStates(present.map(({ id, revision, state }) => ({ id, revision, state })));
      failing = false;
    } catch (error) {
      for (const slot of present) due.noteChange(slot);
      if (!failing) deps.emit({ kind: "service.failed", what: "writing mailbox states", failure: failureOf(error) });
      failing = true;
    }
  };

  return {
    reporter({ mailbox: { id, revision, receive }, state }) {
      const { mode, poll } = receive;
      const silentSince = new Date(clock.now()).toISOString();
      const own = { ...(isConnected(state) ? { ...state, ...initialStatus(silentSince) } : state), node: deps.node };
      const slot: Slot = { id, revision, receive: { mode, poll }, state: own, silentSince };
      slots.set(id, slot);
      due.noteChange(slot);
      return stateReporter(deps.emit, slot, due);
    },
    *held() {
      for (const [id, { receive, state, silentSince }] of slots)
        yield {
          id,
          receive,
          state: silentSince === undefined ? state : { ...state, status: "initializing", since: silentSince },
        };
    },
    forget(mailbox) {
      slots.delete(mailbox);
    },
    async run(signal) {
      while (!signal.aborted) {
        await due.wait(signal);
        for (const batch of due.take(clock.now())) {
          await write(batch);
          await setImmediate();
        }
      }
      for (const batch of due.take(Infinity)) await write(batch);
    },
  };
}

/** What an earlier subscription said, which has ended. */
function isConnected({ status }: MailboxState): boolean {
  return CONNECTED_STATUSES.includes(status);
}

function initialStatus(since: string): Pick<MailboxState, "status" | "since" | "problem"> {
  return { status: "initializing", since, problem: null };
}

/** The slots that must be written: those that changed at once, those that were verified only by a time. */
function dueSlots() {
  const changed = new Set<Slot>();
  /** When each must be written. The first one is due first. */
  const verified = new Map<Slot, number>();
  const noted = wakeup();
  return {
    noteChange(slot: Slot) {
      changed.add(slot);
      noted.trigger();
    },
    noteVerified(slot: Slot) {
      if (!verified.has(slot)) verified.set(slot, clock.now() + VERIFIED_AFTER_MS);
    },
    /** Resolves a moment after the next change, or when one that was verified is due. */
    async wait(signal: AbortSignal) {
      const [dueAt = Infinity] = verified.values();
      const waitMs = Math.max(VERIFIED_TOGETHER_MS, Math.min(VERIFIED_AFTER_MS, dueAt - clock.now()));
      if ((await noted.wait(waitMs, signal)) === "triggered") await sleep(WRITE_AFTER_MS, signal);
    },
    /** All that are due at this time, in batches. They are no longer due, and what is reported from now on is due again. */
    take(now: number): Slot[][] {
      for (const slot of changed) verified.delete(slot);
      const all = [...changed];
      changed.clear();
      for (const [slot, at] of verified) {
        if (at > now) break;
        verified.delete(slot);
        all.push(slot);
      }
      return Array.from({ length: Math.ceil(all.length / BATCH) }, (_, n) => all.slice(n * BATCH, (n + 1) * BATCH));
    },
  };
}

function stateReporter(emit: Emit, slot: Slot, due: ReturnType<typeof dueSlots>): StateReporter {
  const set = (change: Partial<MailboxState>) => {
    slot.state = { ...slot.state, ...change };
    due.noteChange(slot);
  };
  let connectedStatus: MailboxStatus = "listening";
  return {
    get state() {
      return slot.state;
    },
    setFolders(problem, watched) {
      this.setStatus(watched ? connectedStatus : "needs_attention", problem);
    },
    setStatus(status, problem, retryAt) {
      if (status === "listening" || status === "polling") connectedStatus = status;
      const changed = status !== slot.state.status || problem?.code !== slot.state.problem?.code;
      slot.silentSince = undefined;
      const shown = problem && { ...problem.view(), retryAt: retryAt?.toISOString() ?? null };
      set({ status, problem: shown, since: changed ? new Date(clock.now()).toISOString() : slot.state.since });
      if (!changed) return;
      emit({
        kind: "mailbox.status",
        mailbox: slot.id,
        status,
        ...(problem && { failure: failureOf(problem) }),
        ...(retryAt && { retryAt: retryAt.toISOString() }),
      });
    },
    markVerified() {
      slot.state = { ...slot.state, lastVerifiedAt: new Date(clock.now()).toISOString() };
      due.noteVerified(slot);
    },
    markArrival: () => set({ lastArrivalAt: new Date().toISOString() }),
    clearFailedLogins: () => set({ failedLogins: 0 }),
    countFailedLogin(times = slot.state.failedLogins + 1) {
      set({ failedLogins: times });
      return slot.state.failedLogins;
    },
  };
}

function failureOf(error: unknown) {
  const { code, message } = asProblem(error);
  return { code, cause: message };
}
