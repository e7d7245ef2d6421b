/** The one session of a mail connection: opened when it is first needed, opened again after it was lost, and never after the end. */
import { Problem } from "../contract/problem.ts";
import { within } from "../time.ts";

type Session = { readonly open: boolean; close(): Promise<void> };

export interface Kept<S> {
  /** The open session; whoever asks while it is being opened waits for the same one. Throws what opening throws, and after `close`. */
  session(signal: AbortSignal): Promise<S>;
  /** As `session`; undefined where the signal aborts meanwhile: a watch that is called off while it connects ends quietly. */
  sessionUnlessStopped(signal: AbortSignal): Promise<S | undefined>;
  readonly open: boolean;
  close(): Promise<void>;
}

/** Each step of opening has a deadline of its own, and the gate may let wait; this bounds all of it. */
const OPENING_MS = 30 * 60 * 1000;

/** `open` is told when the connection was closed. A lost session is closed before the next is opened. */
export function kept<S extends Session>(open: (signal: AbortSignal) => Promise<S>): Kept<S> {
  const life = new AbortController();
  let opening: Promise<S> | undefined;
  let current: S | undefined;

  async function opened(): Promise<S> {
    await current?.close();
    current = await open(life.signal);
    // Closed just as it was ready: nobody else would close it.
    if (life.signal.aborted) await current.close();
    life.signal.throwIfAborted();
    return current;
  }

  async function session(signal: AbortSignal): Promise<S> {
    signal.throwIfAborted();
    if (life.signal.aborted) throw closed();
    if (current?.open) return current;
    opening ??= opened().finally(() => {
      opening = undefined;
    });
    return within(OPENING_MS, "Connecting", opening, signal);
  }

  return {
    session,
    async sessionUnlessStopped(signal) {
      try {
        return await session(signal);
      } catch (error) {
        if (signal.aborted) return undefined;
        throw error;
      }
    },
    get open() {
      return current?.open ?? false;
    },
    async close() {
      life.abort(closed());
      await current?.close();
    },
  };
}

function closed(): Problem {
  return new Problem("connect", "This mail connection was closed");
}
