/**
 * Waits for changes of a folder: with IDLE (RFC 2177) on a shared connection, or with a plain timer if the server has
 * no IDLE.
 */
import type { MailboxObject } from "imapflow";
import { sleep } from "../../time.ts";
import { samePath, type Session } from "./session.ts";

/** If the server ends an IDLE sooner than this, the next one is not issued at once. */
const MIN_IDLE_MS = 1000;

export type IdleListener = {
  /** False if the server cannot notify, also once it has shown that it cannot. */
  readonly push: boolean;
  /**
   * Waits until the folder changed (true), until the given time (false), or until the signal aborts. Throws when the
   * connection ends. `seen` is the highest uid that was compared.
   */
  waitForChange(folder: string, seen: number, until: number): Promise<boolean>;
  /** Whether the server has reported something new in the folder since the last call. */
  takeChange(folder: string): boolean;
};

/** The listener of one subscription. When the signal aborts, it releases the connection. */
export function createIdleListener(session: Session, signal: AbortSignal): IdleListener {
  const { client } = session;
  let push = client.capabilities.has("IDLE");
  const changedFolders: string[] = [];
  let runningIdle: RunningIdle | undefined;
  let wake = noop;
  const onExists = ({ path }: { path: string }) => {
    if (!changedFolders.some((one) => samePath(one, path))) changedFolders.push(path);
    wake();
  };
  client.on("exists", onExists);
  // The signal outlives many connections, so it must not keep listeners of ended ones.
  signal.addEventListener("abort", () => client.off("exists", onExists), { once: true, signal: session.ended });
  const takeChange = (folder: string): boolean => {
    const at = changedFolders.findIndex((one) => samePath(one, session.pathOf(folder)));
    if (at >= 0) changedFolders.splice(at, 1);
    return at >= 0;
  };

  /**
   * Issues IDLE in a turn on the connection (unless it still runs) and ends the turn at once: the next command breaks
   * IDLE. Undefined when there is a change already.
   */
  async function startIdle(folder: string, seen: number): Promise<RunningIdle | undefined> {
    const issue = (box: MailboxObject) => {
      if (takeChange(folder) || box.uidNext > seen + 1) return Promise.resolve(undefined);
      if (!runningIdle || !client.idling) {
        runningIdle = { finished: client.idle(), commandCount: session.commandCount, at: performance.now() };
      }
      return Promise.resolve(runningIdle);
    };
    return session.runInFolder(folder, "IDLE", issue, signal);
  }

  async function waitForChange(folder: string, seen: number, until: number): Promise<boolean> {
    while (performance.now() < until && !signal.aborted) {
      const woken = new Promise<"stirred">((resolve) => {
        wake = () => resolve("stirred");
      });
      const running = push ? await startIdle(folder, seen) : undefined;
      if (push && !running) return true;
      const reason = await waitForFirst({ woken, idleFinished: running?.finished, until }, session, signal);
      if (reason === "stirred" && takeChange(folder)) return true;
      if (reason !== "over" || !running) return false;
      if ((await running.finished) === false) push = false;
      const byServer = session.commandCount === running.commandCount && performance.now() - running.at < MIN_IDLE_MS;
      if (byServer && push) await sleep(MIN_IDLE_MS, signal);
      if (!push) return true;
    }
    return false;
  }

  return {
    get push() {
      return push;
    },
    waitForChange,
    takeChange,
  };
}

const noop = () => undefined as void;

type RunningIdle = { finished: Promise<unknown>; commandCount: number; at: number };
type WakeSources = { woken: Promise<"stirred">; idleFinished: Promise<unknown> | undefined; until: number };

/**
 * What happens first: the folder changes, IDLE ends, or the time comes (or the signal aborts). Throws when the
 * connection ends.
 */
async function waitForFirst(
  wakers: WakeSources,
  session: Session,
  signal: AbortSignal,
): Promise<"stirred" | "over" | "due"> {
  const { promise, resolve } = Promise.withResolvers<"stirred" | "over" | "due">();
  const onDue = () => resolve("due");
  const onIdleFinished = () => resolve("over");
  // A timer may fire slightly before performance.now() reaches the time.
  const timer = setTimeout(onDue, Math.max(0, Math.ceil(wakers.until - performance.now()) + 1));
  if (session.ended.aborted || signal.aborted) onDue();
  session.ended.addEventListener("abort", onDue, { once: true });
  signal.addEventListener("abort", onDue, { once: true });
  wakers.idleFinished?.then(onIdleFinished, onIdleFinished);
  void wakers.woken.then(resolve);
  try {
    const first = await promise;
    if (session.ended.aborted && !signal.aborted) throw session.ended.reason;
    return first;
  } finally {
    clearTimeout(timer);
    session.ended.removeEventListener("abort", onDue);
    signal.removeEventListener("abort", onDue);
  }
}
