/** Parts that live as long as the process: started together, stopped together, the one place where stopping is decided. */

/** Something that works until the signal aborts, then finishes what it has in flight and resolves. */
export type Part = { name: string; run: (signal: AbortSignal) => Promise<void> };

/**
 * Runs all parts until the signal aborts or one of them fails; then aborts the others and waits for all of them. Rejects
 * with the first failure, so that a process whose part died does not go on half alive.
 */
export async function runTogether(parts: Part[], signal: AbortSignal): Promise<void> {
  const ours = new AbortController();
  const all = AbortSignal.any([signal, ours.signal]);
  const failures: unknown[] = [];
  await Promise.all(
    parts.map(async (part) => {
      try {
        await part.run(all);
        if (!all.aborted) throw new Error(`${part.name} ended by itself`);
      } catch (error) {
        if (!all.aborted || !isAbort(error)) failures.push(error);
      } finally {
        ours.abort(stopping(`${part.name} ended`));
      }
    }),
  );
  if (failures.length > 0) throw failures[0];
}

/**
 * Runs `inner` as `runTogether` does, inside `outer` parts that record what it does: those stop only when all of `inner` has
 * stopped. A failure on either side stops both.
 */
export async function runInside(outer: Part[], inner: Part[], signal: AbortSignal): Promise<void> {
  const over = new AbortController();
  const broken = new AbortController();
  const recording = runTogether(outer, over.signal).finally(() => broken.abort(stopping("The recording ended")));
  try {
    await runTogether(inner, AbortSignal.any([signal, broken.signal]));
  } finally {
    over.abort(stopping("The work is over"));
    await recording;
  }
}

/** The reason given to a signal that ends work in good order. */
export function stopping(why: string): DOMException {
  return new DOMException(why, "AbortError");
}

/** True for the error that an aborted wait throws: a shutdown, not a fault. */
export function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === "AbortError";
}

/** A signal that aborts on SIGTERM or SIGINT; a second one of either exits at once with code 130. */
export function untilStopped(announce: (name: string) => void): AbortSignal {
  const stop = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => {
      if (stop.signal.aborted) process.exit(130);
      announce(name);
      stop.abort(stopping("The service is stopping"));
    });
  }
  return stop.signal;
}
