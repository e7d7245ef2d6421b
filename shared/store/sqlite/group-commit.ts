/**
 * Group commit: the small writes of one turn of the event loop share one transaction, whose commit is what they cost most, and those
 * that have to be on the disk share one wait for it, which holds up nobody else.
 */

/** How the one who asked is told. */
type Told = { done: () => void; failed: (error: unknown) => void };
/** `run` does the work, within a step, and gives what to say once it counts. */
type Job = { run: () => Told; durable: boolean; failed: (error: unknown) => void };

type Deps = {
  step: <T>(work: () => T) => T;
  /** Resolves once everything committed before the call is on the disk. */
  sync: () => Promise<void>;
};

/**
 * `add` collects work until the turn ends, then does all of it in one step, in the order it came; its promises settle after the commit,
 * the durable ones when that is on the disk. While the disk is busy, further durable work gathers for the next step. When one throws,
 * each is done again in a step of its own, so that it rejects alone: work must do nothing but read and write the database.
 * Where the disk refuses, durable work rejects although it may be there. `close` does what is waiting at once; `saved` is then to be
 * called when all of it is on the disk.
 */
export function grouped({ step, sync }: Deps) {
  let waiting: Job[] = [];
  let unsaved: Told[] = [];
  let [scheduled, syncing] = [false, false];

  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(flush);
  };
  const commit = (jobs: Job[]) => {
    for (const [job, told] of committed(step, jobs)) {
      if (job.durable) unsaved.push(told);
      else told.done();
    }
  };
  const flush = () => {
    scheduled = false;
    const jobs = syncing ? waiting.filter(({ durable }) => !durable) : waiting;
    waiting = syncing ? waiting.filter(({ durable }) => durable) : [];
    commit(jobs);
    if (unsaved.length > 0 && !syncing) void save();
  };
  const save = async () => {
    const those = unsaved;
    unsaved = [];
    syncing = true;
    try {
      await sync();
      for (const { done } of those) done();
    } catch (error) {
      for (const { failed } of those) failed(error);
    }
    syncing = false;
    // What these were waited for with comes along.
    if (waiting.length > 0) schedule();
  };
  const add = <T>(work: () => T, durable = false): Promise<T> =>
    new Promise((resolve, reject) => {
      const run = () => {
        const result = work();
        return { done: () => resolve(result), failed: reject };
      };
      waiting.push({ run, durable, failed: reject });
      if (!(durable && syncing)) schedule();
    });
  return {
    add,
    close(): { saved: () => void } {
      const jobs = waiting;
      waiting = [];
      commit(jobs);
      const those = unsaved;
      unsaved = [];
      return { saved: () => those.forEach(({ done }) => done()) };
    },
  };
}

function committed(step: Deps["step"], jobs: Job[]): [Job, Told][] {
  try {
    if (jobs.length > 1) return step(() => jobs.map((job) => [job, job.run()]));
  } catch {
    // Undone as a whole; the one at fault will throw again, into its own promise.
  }
  return jobs.flatMap((job): [Job, Told][] => {
    try {
      return [[job, step(job.run)]];
    } catch (error) {
      job.failed(error);
      return [];
    }
  });
}
