/**
 * Records how this node's mailboxes were, for the bars of the console. Only changes are written, because a row per node
 * says until when everything else stayed as it was: a mailbox that listens all day costs one write.
 */
import { randomBytes } from "node:crypto";
import { asProblem } from "../../shared/contract/problem.ts";
import { claimsToListen, isVerified, type Periods } from "../../shared/mail/verified.ts";
import type { Part } from "../../shared/run.ts";
import type { Measures, NodeRun } from "../../shared/store/measured/measures.ts";
import {
  RUN_CHARACTERS,
  type StateReport,
  type TickState,
  tickOf,
  UNNOTICED_MINUTES,
  worseOf,
} from "../../shared/store/measured/state-entries.ts";
import type { Deliveries } from "../../shared/store/store.ts";
import type { Fact, Facts } from "../../shared/telemetry/events.ts";
import { gaugeOf, listeningName, PARKED, periodOf, WAITING } from "../../shared/telemetry/tallies.ts";
import { clock, sleep, withTimeout } from "../../shared/time.ts";
import type { HeldMailbox, MailboxStates } from "./states.ts";

/** How soon a change is in the store. */
const WRITE_EVERY_MS = 5_000;
/** How often the node says that it is there, and looks at all its mailboxes. */
const PROVE_EVERY_MS = 60_000;
/** If the process stood still for that long, nobody knows how its mailboxes were meanwhile. */
const STOOD_STILL_MS = 2 * PROVE_EVERY_MS;
const WRITE_MS = 10_000;
const BATCH = 500;
/**
 * Reports that may wait while the store does not answer, or four for each mailbox. With more, nobody knows how the time
 * since the last write was.
 */
const MAX_WAITING = 50_000;

type RecorderDeps = {
  facts: Facts;
  board: Pick<MailboxStates, "held">;
  measures: Pick<Measures, "record" | "count">;
  deliveries: Pick<Deliveries, "getCounts">;
  node: string;
  periods: Periods;
};

/** A part that records until the signal aborts, and once more at the end. */
export function stateRecorder(deps: RecorderDeps): Part {
  return { name: "state history", run: (signal) => recordStates(deps, signal) };
}

async function recordStates(deps: RecorderDeps, signal: AbortSignal): Promise<void> {
  const { facts, board, periods } = deps;
  const notes = noteBook(deps.node);
  const unsubscribe = facts.subscribe((fact) => noteFact(notes, fact));
  const write = reportingOnce(facts, () => writeNotes(deps, notes));
  const writeNumbers = reportingOnce(facts, () => countNumbers(deps, notes.run().id));
  let lookedAt = clock.now();
  let provedAt = -Infinity;
  try {
    // What an earlier process of this name reported is old. This one is there from now on.
    await write();
    while (await sleep(WRITE_EVERY_MS, signal)) {
      const now = clock.now();
      if (now - lookedAt > STOOD_STILL_MS) notes.begin();
      lookedAt = now;
      const isDue = now - provedAt >= PROVE_EVERY_MS;
      if (isDue) notes.compare(board.held(), periods);
      if (isDue || notes.waiting.size > 0) await write();
      if (isDue) await writeNumbers();
      if (isDue) provedAt = now;
    }
  } finally {
    unsubscribe();
  }
  // The mailboxes are released by now. They are not reported as left one by one: that the run ends says it of all.
  await write();
}

type NoteBook = {
  /** What the store does not have yet. */
  readonly waiting: Map<string, StateReport>;
  run(): NodeRun;
  /** Begins a new run, because nobody knows what happened since the last write. */
  begin(): void;
  note(mailbox: string, state: TickState): void;
  /** Notes what no fact has told: mailboxes that are not verified any more, that begin for long, or that left. */
  compare(held: Iterable<HeldMailbox>, periods: Periods): void;
  /** The store has these, and the run is whole until then. */
  settle(written: [string, StateReport][], until: number): void;
};

function noteBook(node: string): NoteBook {
  const waiting = new Map<string, StateReport>();
  /** The last noted state of each mailbox of this node. */
  const known = new Map<string, TickState>();
  let run = newRun(node);

  const add = (report: StateReport) => {
    const key = `${report.tick} ${report.mailbox}`;
    const before = waiting.get(key);
    const minute = report.last === "nobody" ? report.minute : (before?.minute ?? report.minute);
    waiting.set(key, before ? { ...report, minute, worst: worseOf(before.worst, report.worst) } : report);
  };
  const leave = (mailbox: string) => {
    const state = known.get(mailbox);
    known.delete(mailbox);
    // Nobody has to be there for a mailbox that is paused.
    if (state !== "paused") add({ mailbox, ...tickOf(clock.now()), worst: "syncing", last: "nobody" });
  };
  return {
    waiting,
    run: () => run,
    begin() {
      waiting.clear();
      known.clear();
      run = newRun(node);
    },
    note(mailbox, state) {
      if (known.get(mailbox) === state) return;
      known.set(mailbox, state);
      add({ mailbox, ...tickOf(clock.now()), worst: state, last: state });
    },
    compare(held, periods) {
      const here = new Set<string>();
      for (const one of held) {
        here.add(one.id);
        const state = tickStateOf(one, periods);
        if (state) this.note(one.id, state);
      }
      for (const mailbox of known.keys()) if (!here.has(mailbox)) leave(mailbox);
      if (waiting.size > Math.max(MAX_WAITING, 4 * known.size)) this.begin();
    },
    settle(written, until) {
      for (const [key, report] of written) if (waiting.get(key) === report) waiting.delete(key);
      run = { ...run, until };
    },
  };
}

function newRun(node: string): NodeRun {
  const now = clock.now();
  return {
    id: randomBytes(RUN_CHARACTERS).toString("base64url").slice(0, RUN_CHARACTERS),
    node,
    from: now,
    until: now,
  };
}

/** Facts tell of changes that are over before the next comparison. */
function noteFact(notes: NoteBook, fact: Fact): void {
  if (fact.kind === "mailbox.connected") notes.note(fact.mailbox, fact.push ? "listening" : "polling");
  // A mailbox begins for a moment after each change. Only the comparison notes it, if it takes long.
  if (fact.kind === "mailbox.status" && fact.status !== "initializing") notes.note(fact.mailbox, fact.status);
}

/** Undefined while the mailbox has only just begun. */
function tickStateOf({ receive, state }: HeldMailbox, periods: Periods): TickState | undefined {
  if (claimsToListen(state)) return isVerified(receive, state, periods) ? state.status : "unverified";
  const hasJustBegun = () => clock.now() - Date.parse(state.since) < UNNOTICED_MINUTES * 60_000;
  return state.status === "initializing" && hasJustBegun() ? undefined : state.status;
}

async function writeNotes({ measures }: RecorderDeps, notes: NoteBook): Promise<void> {
  const until = clock.now();
  const all = [...notes.waiting];
  const run = notes.run();
  for (let from = 0; from === 0 || from < all.length; from += BATCH) {
    const batch = all.slice(from, from + BATCH);
    const isLast = from + BATCH >= all.length;
    const reports = batch.map(([, report]) => report);
    const written = measures.record(isLast ? { ...run, until } : run, reports);
    await withTimeout(WRITE_MS, "Writing the states of mailboxes", written);
  }
  notes.settle(all, until);
}

/** What the first page shows beside the deliveries. */
async function countNumbers({ board, deliveries, measures, periods }: RecorderDeps, run: string): Promise<void> {
  let listening = 0;
  for (const one of board.held()) {
    const state = tickStateOf(one, periods);
    if (state === "listening" || state === "polling" || state === "syncing") listening += 1;
  }
  const { retrying, parked } = await deliveries.getCounts();
  const now = clock.now();
  const set = { [listeningName(run)]: gaugeOf(listening, now), [WAITING]: retrying, [PARKED]: parked };
  const counted = measures.count({ at: periodOf(now), add: {}, set, latencies: [] });
  await withTimeout(WRITE_MS, "Writing the numbers of mailboxes", counted);
}

/** Runs `work`. If it fails again and again, only the first failure is reported. */
function reportingOnce({ emit }: Facts, work: () => Promise<void>): () => Promise<void> {
  let isFailing = false;
  return async () => {
    try {
      await work();
      isFailing = false;
    } catch (error) {
      const { code, message } = asProblem(error);
      const what = "recording the states of mailboxes";
      if (!isFailing) emit({ kind: "service.failed", what, failure: { code, cause: message } });
      isFailing = true;
    }
  };
}
