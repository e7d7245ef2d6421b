/** Group commit: the small writes of one turn of the event loop share one transaction, whose commit is what they cost most. */

/** `again` repeats the work in a step of its own. */
type Job = { run: () => () => void; again: () => void };

/**
 * `add` collects work until the turn of the event loop ends, then does all of it in one step, in the order it came; its promises
 * settle after the commit. When one throws, each is done again in a step of its own, so that it rejects alone: work must do
 * nothing but read and write the database. `flush` does what is waiting at once.
 */
export function grouped(step: <T>(work: () => T) => T) {
  let waiting: Job[] = [];
  const flush = () => {
    const jobs = waiting;
    waiting = [];
    for (const settle of committed(step, jobs)) settle();
  };
  const add = <T>(work: () => T): Promise<T> =>
    new Promise((resolve, reject) => {
      const run = () => {
        const result = work();
        return () => resolve(result);
      };
      const again = () => {
        try {
          resolve(step(work));
        } catch (error) {
          reject(error);
        }
      };
      waiting.push({ run, again });
      if (waiting.length === 1) setImmediate(flush);
    });
  return { add, flush };
}

function committed(step: <T>(work: () => T) => T, jobs: Job[]): (() => void)[] {
  if (jobs.length < 2) return jobs.map(({ again }) => again);
  try {
    return step(() => jobs.map(({ run }) => run()));
  } catch {
    // Undone as a whole; the one at fault will throw again, into its own promise.
    return jobs.map(({ again }) => again);
  }
}
