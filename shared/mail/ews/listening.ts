/** One hanging GetStreamingEvents, from its request to its end: heartbeats, events, and what the server has to say against it. */
import { Problem } from "../../contract/problem.ts";
import { elementsOf } from "./soap/elements.ts";
import { fateOf } from "./notifications/failure-kinds.ts";
import { type Notice, noticesIn, type Stirred } from "./soap/notifications.ts";
import { problemOfCode } from "./soap/errors.ts";
import type { EwsSession } from "./client/session.ts";
import { affinity, type Folders, streamRequest } from "./notifications/subscribe.ts";

/** Who follows a mailbox; both are called between two chunks of the connection, and must return at once. */
export type Follower = {
  session: EwsSession;
  folders: Folders;
  /** Something appeared in these folders, or may have: look there. */
  hint: (folders: Stirred) => void;
  /** The server was heard; or, whether it tells by itself what happens. */
  told: (sign: { kind: "heard" } | { kind: "how"; push: boolean }) => void;
};

/** A subscription on a connection, and what is to be called when the server ends it. */
export type Seat = { follower: Follower; id: string; lost: () => void };

export type Listening = {
  /** Whose session asks, and pays for the connection. */
  session: EwsSession;
  anchor: string;
  seats: ReadonlyMap<string, Seat>;
  /** Silence of the server that means deafness. */
  silenceMs: number;
  /** Called once the server hears for these seats. */
  opened: () => void;
};

/** A stream begins at once. Where it does not, something on the way waits for its end, and would for half an hour. */
const ANSWER_MS = 30_000;

/** The longest that Exchange keeps such a connection. */
const MAX_MINUTES = 30;

/** Resolves when the server ends the connection in good order or lost subscriptions; throws its Problem, or the signal's reason. */
export async function listen(listening: Listening, signal: AbortSignal): Promise<void> {
  const { session, seats, anchor, silenceMs } = listening;
  const body = streamRequest([...seats.keys()], MAX_MINUTES);
  const options = { idleMs: silenceMs, answerMs: Math.min(silenceMs, ANSWER_MS), headers: affinity(anchor) };
  const chunks = await session.raw("Listening for new mail", body, signal, options);
  let hears = false;
  for await (const envelope of elementsOf(chunks, { names: ["Envelope"] })) {
    for (const notice of noticesIn(envelope)) {
      if (notice.code !== "NoError") return refused(seats, notice);
      if (!hears) listening.opened();
      hears = true;
      for (const { follower } of seats.values()) follower.told({ kind: "heard" });
      for (const [id, stirred] of notice.news) seats.get(id)?.follower.hint(stirred);
      if (notice.closed) return;
    }
  }
  if (!hears) throw new Problem("connect", "The server ended the stream before it said anything");
}

function refused(seats: ReadonlyMap<string, Seat>, notice: Notice): void {
  if (fateOf(notice.code) !== "lost") throw problemOfCode(notice);
  const ids = notice.lost.length > 0 ? notice.lost : [...seats.keys()];
  for (const id of ids) seats.get(id)?.lost();
}
