/** Group commit: the small writes of one turn of the event loop share one transaction, whose commit is what they cost most. */

type Steps = {
  step: <T>(work: () => T) => T;
  apart: <T>(work: () => T) => T;
  /** True when the transaction around `apart` is gone. */
  broken: () => boolean;
};
type Job = { run: () => () => void; fail: (error: unknown) => void };

/**
 * `add` collects work until the turn of the event loop ends, then does all of it in one step, in the order it came; its promises
 * settle after the commit. Work that throws is undone and rejects alone; a step that fails as a whole rejects them all. `flush`
 * does what is waiting at once.
 */
export function grouped({ step, apart, broken }: Steps) {
  let waiting: Job[] = [];
  const flush = () => {
    const jobs = waiting;
    waiting = [];
    if (jobs.length === 0) return;
    try {
      const settle = step(() => jobs.map((job) => job.run()));
      for (const one of settle) one();
    } catch (error) {
      for (const job of jobs) job.fail(error);
    }
  };
  const add = <T>(work: () => T): Promise<T> =>
    new Promise((resolve, reject) => {
      const run = () => {
        try {
          const result = apart(work);
          return () => resolve(result);
        } catch (error) {
          if (broken()) throw error;
          return () => reject(error);
        }
      };
      waiting.push({ run, fail: reject });
      if (waiting.length === 1) setImmediate(flush);
    });
  return { add, flush };
}
