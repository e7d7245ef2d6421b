/**
 * The states that this node's subscriptions report: kept in memory, reported as facts, and written to the store a
 * moment later.
 */
import type { MailboxState, MailboxStatus, Receive } from "../../shared/contract/mailbox.ts";
import type { Problem } from "../../shared/contract/problem.ts";
import { asProblem } from "../../shared/contract/problem.ts";
import type { Mailboxes, MailboxWithState } from "../../shared/store/store.ts";
import type { Emit } from "../../shared/telemetry/events.ts";
import { clock, sleep } from "../../shared/time.ts";

/** How often changes are written. */
const WRITE_EVERY_MS = 200;
/** How late `lastVerifiedAt` alone may be in the store. It changes all the time and is not worth a write. */
const VERIFIED_EVERY_MS = 60_000;

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
  /** A reporter for one mailbox in its present revision. It starts with the state that the store has. */
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
  revision: number;
  receive: HeldMailbox["receive"];
  state: MailboxState;
  dirty: boolean;
  /** When the subscription began here; undefined since it has reported something. */
  silentSince: string | undefined;
};

export function mailboxStates(deps: MailboxStatesDeps): MailboxStates {
  const slots = new Map<string, Slot>();
  let failing = false;
  let allWrittenAt = clock.now();

  const write = async (now: number) => {
    // All in one write: if a thousand idle mailboxes were written one by one, the store would be busy all the time.
    const all = now - allWrittenAt >= VERIFIED_EVERY_MS;
    const due = [...slots].filter(([, slot]) => slot.dirty || all);
    if (due.length === 0) return;
    for (const [, slot] of due) slot.dirty = false;
    try {
      await deps.mailboxes.saveStates(due.map(([id, { revision, state }]) => ({ id, revision, state })));
      if (all) allWrittenAt = now;
      failing = false;
    } catch (error) {
      for (const [, slot] of due) slot.dirty = true;
      if (!failing) deps.emit({ kind: "service.failed", what: "writing mailbox states", failure: failureOf(error) });
      failing = true;
    }
  };

  return {
    reporter({ mailbox: { id, revision, receive }, state }) {
      const { mode, poll } = receive;
      const silentSince = new Date(clock.now()).toISOString();
      const own = { ...state, node: deps.node };
      const slot: Slot = { revision, receive: { mode, poll }, state: own, dirty: true, silentSince };
      slots.set(id, slot);
      return stateReporter(deps.emit, id, slot);
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
      while (await sleep(WRITE_EVERY_MS, signal)) await write(clock.now());
      await write(clock.now());
    },
  };
}

function stateReporter(emit: Emit, mailbox: string, slot: Slot): StateReporter {
  const set = (change: Partial<MailboxState>) => {
    slot.state = { ...slot.state, ...change };
    slot.dirty = true;
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
        mailbox,
        status,
        ...(problem && { failure: failureOf(problem) }),
        ...(retryAt && { retryAt: retryAt.toISOString() }),
      });
    },
    markVerified() {
      slot.state = { ...slot.state, lastVerifiedAt: new Date(clock.now()).toISOString() };
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
