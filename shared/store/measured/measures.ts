/** What was measured in the last day: how each mailbox was, when which node was there, and counts. */
import type { Tally } from "../../telemetry/tallies.ts";
import type { StateEntry, StateReport } from "./state-entries.ts";

/**
 * One run of a node. `from` and `until` are in milliseconds since 1970: between them its reports are whole. A dead node
 * writes nothing, so its run ends with its last report.
 */
export type NodeRun = { id: string; node: string; from: number; until: number };

/** `latencyMs` is of the last delivered message, from being seen to being accepted; null without one. */
export type MeasuredMailbox = { states: StateEntry[]; latencyMs: number | null };

/** The numbers of one period, see `Tally`. */
export type Period = { at: number; values: ReadonlyMap<string, number> };

/** How long runs and counts are kept: a day, and what a page that shows a day may lag behind. */
export const KEPT_MS = 25 * 3_600_000;

/**
 * The measured history. Only changes of states are written, and one row for each run of a node says until when nothing
 * else changed. So a mailbox that listens for a day costs one entry, and an idle node one write a minute.
 */
export interface Measures {
  /**
   * Adds what changed, and then that this run's reports are whole until `run.until`. Reports of mailboxes that are gone
   * are ignored. Forgets what is older than a day.
   */
  record(run: NodeRun, reports: readonly StateReport[]): Promise<void>;
  /** Adds to the numbers of a period. Forgets periods that are older than a day. */
  count(tally: Tally): Promise<void>;
  /** What is known of these mailboxes, in their order. */
  readMailboxes(ids: readonly string[]): Promise<MeasuredMailbox[]>;
  /** The runs that ended within the last day, or go on. */
  listRuns(): Promise<NodeRun[]>;
  /** The periods from a time on, the oldest first. Periods without numbers may be missing. */
  readPeriods(since: number): Promise<Period[]>;
}
