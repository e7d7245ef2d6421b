/** How far a bulk action has come. What is stored of it never skips a target that is not done. */
import { type BulkJob, type BulkProgress, updateJob } from "./book.ts";
import type { Target } from "./targets.ts";

/** What happened to one target: null if all went well. */
export type Outcome = string | null;
export type Progress = {
  /**
   * Says how many targets there are from here on. Some that are done may not have been counted when a node died, so this also says how
   * many are done.
   */
  setRemaining(count: number): void;
  /** Call the result with the outcome of the target. */
  begin(target: Target): (outcome: Outcome) => void;
  /** How many targets lie behind the first that is not done, itself among them. */
  pending(): number;
  /** Writes the progress, and with `more` the end. Undefined if the job is no longer stored. */
  save(more?: Partial<BulkProgress>): Promise<BulkJob | undefined>;
};

const MAX_PROBLEMS = 10;
const LONGEST_CAUSE = 300;

export function progressOf(store: Parameters<typeof updateJob>[0], job: BulkJob): Progress {
  let { total, done, failed, after } = job;
  const problems = [...job.problems];
  const window: { target: Target; outcome: Outcome | undefined }[] = [];
  const shift = () => {
    for (let first = window[0]; first?.outcome !== undefined; first = window[0]) {
      window.shift();
      after = first.target.after;
      done += 1;
      if (first.outcome === null) continue;
      failed += 1;
      if (problems.length < MAX_PROBLEMS)
        problems.push({ id: first.target.id, cause: first.outcome.slice(0, LONGEST_CAUSE) });
    }
  };
  return {
    setRemaining(count) {
      total ??= count;
      done = Math.max(done, total - count);
    },
    begin(target) {
      const entry: (typeof window)[number] = { target, outcome: undefined };
      window.push(entry);
      return (outcome) => {
        entry.outcome = outcome;
        shift();
      };
    },
    pending: () => window.length,
    save: (more = {}) => updateJob(store, job.id, () => ({ total, done, failed, after, problems, ...more })),
  };
}
