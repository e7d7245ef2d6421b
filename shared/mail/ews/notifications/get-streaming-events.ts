/** One GetStreamingEvents request, from its start to its end: heartbeats, events, and errors. */
import { Problem } from "../../../contract/problem.ts";
import { readElements } from "../soap/elements.ts";
import { classifyCode } from "./failure-kinds.ts";
import { type EwsNotification, parseNotifications, type ChangedFolders } from "../soap/notifications.ts";
import { problemFromCode } from "../soap/errors.ts";
import type { EwsSession } from "../client/session.ts";
import { affinityHeaders, type Folders, streamingEventsXml } from "./subscribe.ts";

/** A mailbox that listens. Both callbacks run between two chunks of the connection and must return at once. */
export type Listener = {
  session: EwsSession;
  folders: Folders;
  /** Something appeared in these folders, or may have appeared: compare them. */
  onChanges: (folders: ChangedFolders) => void;
  onStatus: (sign: ListenerSign) => void;
};

/**
 * `heard`: the server sent something. `how`: whether the server pushes notifications. `delivered`: the server says that
 * these messages have just been delivered.
 */
export type ListenerSign =
  | { kind: "heard" }
  | { kind: "how"; push: boolean }
  | { kind: "delivered"; keys: readonly string[] };

/** A subscription on a connection, and the callback for when the server ends it. */
export type Subscription = { listener: Listener; id: string; onLost: () => void };

export type GetEventsRequest = {
  /** The session that makes the request. */
  session: EwsSession;
  anchor: string;
  subscriptions: ReadonlyMap<string, Subscription>;
  /** After this much silence the connection counts as dead. */
  silenceMs: number;
  /** Called once the server has confirmed these subscriptions. */
  onOpened: () => void;
};

/** A stream begins at once. If it does not, a proxy on the way waits for its end, which may take half an hour. */
const ANSWER_MS = 30_000;

/** The longest time for which Exchange keeps such a connection. */
const MAX_MINUTES = 30;

/**
 * Resolves when the server ends the connection normally or lost subscriptions. Throws its Problem, or the signal's
 * reason.
 */
export async function getStreamingEvents(request: GetEventsRequest, signal: AbortSignal): Promise<void> {
  const { session, subscriptions, anchor, silenceMs } = request;
  const body = streamingEventsXml([...subscriptions.keys()], MAX_MINUTES);
  const options = { idleMs: silenceMs, answerMs: Math.min(silenceMs, ANSWER_MS), headers: affinityHeaders(anchor) };
  const chunks = await session.postSoap("GetStreamingEvents", body, signal, options);
  let open = false;
  for await (const envelope of readElements(chunks, { names: ["Envelope"], intake: session.intake })) {
    for (const notice of parseNotifications(envelope)) {
      if (notice.code !== "NoError") return handleError(subscriptions, notice);
      if (!open) request.onOpened();
      open = true;
      for (const { listener } of subscriptions.values()) listener.onStatus({ kind: "heard" });
      for (const [id, keys] of notice.delivered) subscriptions.get(id)?.listener.onStatus({ kind: "delivered", keys });
      for (const [id, changed] of notice.changes) subscriptions.get(id)?.listener.onChanges(changed);
      if (notice.closed) return;
    }
  }
  if (!open) throw new Problem("connect", "The server ended the stream before its first answer");
}

function handleError(subscriptions: ReadonlyMap<string, Subscription>, notice: EwsNotification): void {
  if (classifyCode(notice.code) !== "lost") throw problemFromCode(notice);
  const ids = notice.lostSubscriptions.length > 0 ? notice.lostSubscriptions : [...subscriptions.keys()];
  for (const id of ids) subscriptions.get(id)?.onLost();
}
