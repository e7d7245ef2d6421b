/** Waits that end when a signal aborts, and signals derived from others. Every listener is removed at the end. */

/** Calls `listener` when the signal aborts, or at once if it has aborted. Disposing removes the listener. */
export function onAbort(signal: AbortSignal, listener: () => void): Disposable {
  if (signal.aborted) listener();
  else signal.addEventListener("abort", listener, { once: true });
  return { [Symbol.dispose]: () => signal.removeEventListener("abort", listener) };
}

/** Settles as `work` does, or rejects with the signal's reason as soon as it aborts. `work` itself goes on. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  using _ = onAbort(signal, () => reject(signal.reason));
  // The promise that settles second has no other handler for its rejection.
  for (const promise of [work, aborted]) promise.catch(() => undefined);
  return await Promise.race([aborted, work]);
}

/** Resolves as soon as one of the signals aborts. Never rejects. */
export async function untilAborted(...signals: AbortSignal[]): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  using listeners = new DisposableStack();
  for (const signal of signals) listeners.use(onAbort(signal, resolve));
  await promise;
}

/**
 * A signal derived from others. It must be disposed, else a signal that lives as long as the process keeps it in
 * memory.
 */
export type DerivedSignal = Disposable & { readonly signal: AbortSignal };

/** A signal that aborts `ms` after the given one, so that work in flight has time to finish. */
export function delayedSignal(signal: AbortSignal, ms: number): DerivedSignal {
  const derived = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  const listener = onAbort(signal, () => {
    timer = setTimeout(() => derived.abort(signal.reason), ms).unref();
  });
  return {
    signal: derived.signal,
    [Symbol.dispose]() {
      clearTimeout(timer);
      listener[Symbol.dispose]();
    },
  };
}

/**
 * A signal that aborts as soon as one of the given ones does. Use it also for work with many short waits: a signal that
 * everybody shares has many listeners, and removing one searches through all of them.
 */
export function childSignal(...signals: AbortSignal[]): DerivedSignal {
  const child = new AbortController();
  const listeners = new DisposableStack();
  for (const signal of signals) listeners.use(onAbort(signal, () => child.abort(signal.reason)));
  return { signal: child.signal, [Symbol.dispose]: () => listeners.dispose() };
}
