/** Listening for a folder to stir: IDLE (RFC 2177) on a shared connection, or plain waiting where a server has none. */
import type { MailboxObject } from "imapflow";
import { slept } from "../../time.ts";
import { samePath, type Session } from "./session.ts";

/** An IDLE that a server ends by itself sooner than this is not issued again at once. */
const SHORT_IDLE_MS = 1000;

export type Listener = {
  /** False where the server cannot notify, also once it has shown that it cannot. */
  readonly push: boolean;
  /** Waits until the folder stirred (true), until the time (false), or until the signal; throws when the connection ends. */
  listen(folder: string, uidNext: number | null, until: number): Promise<boolean>;
};

/** The listener of one subscription; it lets go of the connection when the signal aborts. */
export function listenerOf(session: Session, signal: AbortSignal): Listener {
  const { client } = session;
  let push = client.capabilities.has("IDLE");
  const stirred: string[] = [];
  let idling: Idle | undefined;
  let wake = nobody;
  const noticed = ({ path }: { path: string }) => {
    if (!stirred.some((one) => samePath(one, path))) stirred.push(path);
    wake();
  };
  client.on("exists", noticed);
  // The signal outlives many connections: it must not keep those that ended.
  signal.addEventListener("abort", () => client.off("exists", noticed), { once: true, signal: session.ended });
  const taken = (folder: string): boolean => {
    const at = stirred.findIndex((one) => samePath(one, folder));
    if (at >= 0) stirred.splice(at, 1);
    return at >= 0;
  };

  /**
   * Issues IDLE in a turn (unless it still runs) and gives the turn away at once: the next command breaks it. Undefined when
   * there is news already.
   */
  async function idle(folder: string, uidNext: number | null): Promise<Idle | undefined> {
    const issue = (box: MailboxObject) => {
      if (taken(folder) || (uidNext !== null && box.uidNext > uidNext)) return Promise.resolve(undefined);
      if (!idling || !client.idling) {
        idling = { over: client.idle(), turns: session.turns, at: performance.now() };
      }
      return Promise.resolve(idling);
    };
    return session.inFolder(folder, "IDLE", issue, signal);
  }

  async function listen(folder: string, uidNext: number | null, until: number): Promise<boolean> {
    while (performance.now() < until && !signal.aborted) {
      const woken = new Promise<"stirred">((resolve) => {
        wake = () => resolve("stirred");
      });
      const running = push ? await idle(folder, uidNext) : undefined;
      if (push && !running) return true;
      const why = await firstOf({ woken, over: running?.over, until }, session, signal);
      if (why === "stirred" && taken(folder)) return true;
      if (why !== "over" || !running) return false;
      if ((await running.over) === false) push = false;
      const byServer = session.turns === running.turns && performance.now() - running.at < SHORT_IDLE_MS;
      if (byServer && push) await slept(SHORT_IDLE_MS, signal);
      if (!push) return true;
    }
    return false;
  }

  return {
    get push() {
      return push;
    },
    listen,
  };
}

const nobody = () => undefined as void;

type Idle = { over: Promise<unknown>; turns: number; at: number };
type Wakers = { woken: Promise<"stirred">; over: Promise<unknown> | undefined; until: number };

/** What happens first: the folder stirs, IDLE is over, the time has come (or the signal). Throws when the connection ends. */
async function firstOf(wakers: Wakers, session: Session, signal: AbortSignal): Promise<"stirred" | "over" | "due"> {
  const { promise, resolve } = Promise.withResolvers<"stirred" | "over" | "due">();
  const due = () => resolve("due");
  const over = () => resolve("over");
  // Timers may fire a little before performance.now() agrees that it is time.
  const timer = setTimeout(due, Math.max(0, Math.ceil(wakers.until - performance.now()) + 1));
  if (session.ended.aborted || signal.aborted) due();
  session.ended.addEventListener("abort", due, { once: true });
  signal.addEventListener("abort", due, { once: true });
  wakers.over?.then(over, over);
  void wakers.woken.then(resolve);
  try {
    const first = await promise;
    if (session.ended.aborted && !signal.aborted) throw session.ended.reason;
    return first;
  } finally {
    clearTimeout(timer);
    session.ended.removeEventListener("abort", due);
    signal.removeEventListener("abort", due);
  }
}
