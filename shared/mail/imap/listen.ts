/** Listening for a folder to stir: IDLE (RFC 2177) on a shared connection, or plain waiting where a server has none. */
import type { Mailbox } from "../../contract/mailbox.ts";
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
export function listenerOf(session: Session, mailbox: Mailbox, signal: AbortSignal): Listener {
  const { client } = session;
  let push = mailbox.receive.mode === "push" && client.capabilities.has("IDLE");
  let stirred: string | undefined;
  let wake = nobody;
  const noticed = ({ path }: { path: string }) => {
    stirred = path;
    wake();
  };
  client.on("exists", noticed);
  signal.addEventListener("abort", () => client.off("exists", noticed), { once: true });
  const taken = (folder: string): boolean => {
    const yes = stirred !== undefined && samePath(stirred, folder);
    stirred = undefined;
    return yes;
  };

  /** Issues IDLE in a turn and gives the turn away at once: the next command breaks it. */
  function idle(folder: string, uidNext: number | null) {
    return session.inFolder(
      folder,
      "IDLE",
      async (box) => {
        if (taken(folder) || (uidNext !== null && box.uidNext > uidNext)) return { news: true as const };
        return { news: false as const, over: client.idle(), turns: session.turns, at: performance.now() };
      },
      signal,
    );
  }

  async function listen(folder: string, uidNext: number | null, until: number): Promise<boolean> {
    while (performance.now() < until && !signal.aborted) {
      const woken = new Promise<"stirred">((resolve) => {
        wake = () => resolve("stirred");
      });
      const idling = push ? await idle(folder, uidNext) : undefined;
      if (idling?.news) return true;
      const why = await firstOf({ woken, over: idling?.over, until }, session, signal);
      if (why === "stirred" && taken(folder)) return true;
      if (why !== "over" || !idling) return false;
      if ((await idling.over) === false) push = false;
      const byServer = session.turns === idling.turns && performance.now() - idling.at < SHORT_IDLE_MS;
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

type Wakers = { woken: Promise<"stirred">; over: Promise<unknown> | undefined; until: number };

/** What happens first: the folder stirs, IDLE is over, the time has come (or the signal). Throws when the connection ends. */
async function firstOf(wakers: Wakers, session: Session, signal: AbortSignal): Promise<"stirred" | "over" | "due"> {
  const done = new AbortController();
  const either = AbortSignal.any([signal, done.signal, session.ended]);
  const due = slept(Math.max(0, wakers.until - performance.now()), either).then(() => "due" as const);
  const over = wakers.over?.then(
    () => "over" as const,
    () => "over" as const,
  );
  try {
    const first = await Promise.race([wakers.woken, due, ...(over ? [over] : [])]);
    if (session.ended.aborted && !signal.aborted) throw session.ended.reason;
    return first;
  } finally {
    done.abort();
  }
}
