/**
 * Group commit. The small writes of one turn of the event loop share one transaction, because the commit is their
 * largest cost. Those that must be on the disk share one wait for the disk, and nobody else waits.
 */

/** Settles the caller's promise. */
type Completion = { done: () => void; failed: (error: unknown) => void };
/** `run` does the work inside the transaction and returns how to settle the promise after the commit. */
type Job = { run: () => Completion; durable: boolean; failed: (error: unknown) => void };

type GroupCommitDeps = {
  transact: <T>(work: () => T) => T;
  /** Resolves once everything that was committed before the call is on the disk. */
  sync: () => Promise<void>;
};

/**
 * `add` collects work until the turn ends, then does all of it in one transaction, in the order in which it came. The
 * promises settle after the commit, the durable ones when the commit is on the disk. While the disk is busy, further
 * durable work waits for the next transaction. If one piece of work throws, each piece is done again in its own
 * transaction, so that only the faulty one rejects. So work must do nothing but read and write the database. If the
 * disk reports an error, durable work rejects although it may be stored. `close` does the waiting work at once; call
 * `saved` when all of it is on the disk.
 */
export function groupCommit({ transact, sync }: GroupCommitDeps) {
  let waiting: Job[] = [];
  let unsynced: Completion[] = [];
  let [scheduled, syncing] = [false, false];

  const schedule = () => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(flush);
  };
  const commit = (jobs: Job[]) => {
    for (const [job, completion] of commitJobs(transact, jobs)) {
      if (job.durable) unsynced.push(completion);
      else completion.done();
    }
  };
  const flush = () => {
    scheduled = false;
    const jobs = syncing ? waiting.filter(({ durable }) => !durable) : waiting;
    waiting = syncing ? waiting.filter(({ durable }) => durable) : [];
    commit(jobs);
    if (unsynced.length > 0 && !syncing) void syncCompleted();
  };
  const syncCompleted = async () => {
    const batch = unsynced;
    unsynced = [];
    syncing = true;
    try {
      await sync();
      for (const { done } of batch) done();
    } catch (error) {
      for (const { failed } of batch) failed(error);
    }
    syncing = false;
    // Work that came during the wait for the disk is next.
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
      const batch = unsynced;
      unsynced = [];
      return { saved: () => batch.forEach(({ done }) => done()) };
    },
  };
}

function commitJobs(transact: GroupCommitDeps["transact"], jobs: Job[]): [Job, Completion][] {
  try {
    if (jobs.length > 1) return transact(() => jobs.map((job) => [job, job.run()]));
  } catch {
    // The whole transaction was rolled back. The faulty piece of work will throw again, into its own promise.
  }
  return jobs.flatMap((job): [Job, Completion][] => {
    try {
      return [[job, transact(job.run)]];
    } catch (error) {
      job.failed(error);
      return [];
    }
  });
}
