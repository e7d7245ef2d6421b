/**
 * Parts that live as long as the process. They start together and stop together, and only this file decides about
 * stopping.
 */

/** Works until the signal aborts, then finishes its work in flight and resolves. */
export type Part = { name: string; run: (signal: AbortSignal) => Promise<void> };

/**
 * Runs all parts until the signal aborts or one of them fails. Then it aborts the others and waits for all of them.
 * Rejects with the first failure, so that a process does not continue when one of its parts has died.
 */
export async function runTogether(parts: Part[], signal: AbortSignal): Promise<void> {
  const stop = new AbortController();
  const all = AbortSignal.any([signal, stop.signal]);
  const failures: unknown[] = [];
  await Promise.all(
    parts.map(async (part) => {
      try {
        await part.run(all);
        if (!all.aborted) throw new Error(`${part.name} ended by itself`);
      } catch (error) {
        if (!all.aborted || !isAbortError(error)) failures.push(error);
      } finally {
        stop.abort(shutdownReason(`${part.name} ended`));
      }
    }),
  );
  if (failures.length > 0) throw failures[0];
}

/**
 * Runs `inner` as `runTogether` does, inside `outer` parts that record what it does. These stop only when all of
 * `inner` has stopped. A failure on either side stops both.
 */
export async function runInside(outer: Part[], inner: Part[], signal: AbortSignal): Promise<void> {
  const innerEnded = new AbortController();
  const outerEnded = new AbortController();
  const outerRun = runTogether(outer, innerEnded.signal).finally(() =>
    outerEnded.abort(shutdownReason("The recording ended")),
  );
  try {
    await runTogether(inner, AbortSignal.any([signal, outerEnded.signal]));
  } finally {
    innerEnded.abort(shutdownReason("The work is over"));
    await outerRun;
  }
}

/** The reason for a signal that ends work normally. */
export function shutdownReason(why: string): DOMException {
  return new DOMException(why, "AbortError");
}

/** True for the error that an aborted wait throws: it is a shutdown, not a failure. */
export function isAbortError(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

/** A signal that aborts on SIGTERM or SIGINT. A second one of either exits at once with code 130. */
export function shutdownSignal(announce: (name: string) => void): AbortSignal {
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(130);
      announce(name);
      stop.abort(shutdownReason("The service is stopping"));
    });
  }
  return stop.signal;
}
