/**
 * The one session of a mail connection: opened when first needed, opened again after it was lost, and never after
 * `close`.
 */
import { Problem } from "../contract/problem.ts";
import { withTimeout } from "../time.ts";

type Session = { readonly open: boolean; close(): Promise<void> };

export interface ReconnectingSession<S> {
  /**
   * The open session. Callers during the opening wait for the same one. Throws what opening throws, and always after
   * `close`.
   */
  getSession(signal: AbortSignal): Promise<S>;
  /**
   * As `getSession`, but undefined when the signal aborts meanwhile: a watch that is cancelled while it connects ends
   * without an error.
   */
  getSessionUnlessAborted(signal: AbortSignal): Promise<S | undefined>;
  readonly open: boolean;
  /** The last session, open or not; undefined before the first. */
  readonly last: S | undefined;
  close(): Promise<void>;
}

/** Each step of opening has its own deadline, and the login rate limiter may add a wait. This limits all of it. */
const MAX_CONNECT_MS = 30 * 60 * 1000;

/** The signal of `open` aborts when the connection is closed. A lost session is closed before the next is opened. */
export function createReconnectingSession<S extends Session>(
  open: (signal: AbortSignal) => Promise<S>,
): ReconnectingSession<S> {
  const lifetime = new AbortController();
  let opening: Promise<S> | undefined;
  let current: S | undefined;

  async function reopen(): Promise<S> {
    await current?.close();
    current = await open(lifetime.signal);
    // The connection was closed just when the session was ready. Nobody else would close the session.
    if (lifetime.signal.aborted) await current.close();
    lifetime.signal.throwIfAborted();
    return current;
  }

  async function getSession(signal: AbortSignal): Promise<S> {
    signal.throwIfAborted();
    if (lifetime.signal.aborted) throw toClosedProblem();
    if (current?.open) return current;
    opening ??= reopen().finally(() => {
      opening = undefined;
    });
    return withTimeout(MAX_CONNECT_MS, "Connecting", opening, signal);
  }

  return {
    getSession,
    async getSessionUnlessAborted(signal) {
      try {
        return await getSession(signal);
      } catch (error) {
        if (signal.aborted) return undefined;
        throw error;
      }
    },
    get open() {
      return current?.open ?? false;
    },
    get last() {
      return current;
    },
    async close() {
      lifetime.abort(toClosedProblem());
      await current?.close();
    },
  };
}

function toClosedProblem(): Problem {
  return new Problem("connect", "This mail connection was closed");
}
