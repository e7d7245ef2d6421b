/**
 * Compares a folder with its cursor. SyncFolderItems says what appeared; new messages get numbers and are handed over
 * in batches, each with an exact cursor. If the server rejects the sync state, the folder is read again without handing
 * over old messages twice.
 */
import type { FolderId } from "ews-javascript-api";
import type { MailboxOf } from "../../../contract/mailbox.ts";
import type { Arrival, Cursor, MessageRef } from "../../../contract/message.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Emit } from "../../../telemetry/events.ts";
import { clock } from "../../../time.ts";
import { hashKey } from "../../assigned-uids.ts";
import { type Numbering, planSteps, recentNumbers } from "../../numbered-steps.ts";
import { getMailboxStart, getResyncStart, isCredibleDate } from "../../since.ts";
import { MAX_REMEMBERED, parseState, type SyncState, serializeState } from "../../exchange/ews-cursor.ts";
import { GONE } from "../../exchange/folder-faults.ts";
import type { EwsSession } from "../client/session.ts";
import { countReceivedSince } from "./find-item.ts";
import { type SyncItem, type SyncPage, syncFolderItems } from "./sync-folder-items.ts";

export type ReconcileContext = {
  session: EwsSession;
  mailbox: MailboxOf<"ews">;
  /** The folder's name in messages and cursors, and its id on the server. */
  path: string;
  folder: FolderId;
  emit?: Emit | undefined;
  /** What "now" means for a folder without a cursor, in milliseconds since 1970. */
  start: number;
  /** The ids of messages that the server said it delivered while the service watched. */
  delivered?: ReadonlySet<string> | undefined;
};

/** How far a folder was handed over: a cursor with its state parsed. */
type Position = Omit<Cursor, "folder" | "state"> & { state: SyncState };

const EPOCH = "ews";

/**
 * Yields the messages after `cursor` in one folder. Without a cursor it yields what `since` asks for, and always a
 * cursor. Numbers are stored, by an arrival without messages, before the first message that has a new one. `onResponse`
 * is called at every answer.
 */
export async function* reconcile(
  context: ReconcileContext,
  cursor: Cursor | undefined,
  onResponse: () => void,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  let position = startPosition(context, cursor);
  let backlog: Arrival["backlog"];
  for (let last = false; !last;) {
    const page = await nextPage(context, position, onResponse, signal);
    if (page === "invalid") {
      if (position.state.sync === "") throw new Problem("protocol", "Exchange rejects every sync state");
      position = restartPosition(context, position);
      continue;
    }
    backlog ??= await findBacklog(context, position, signal);
    for (const step of planPage(position, page)) {
      position = step.at;
      const { epoch, uid, newest, state } = position;
      const messages = step.items.map((item) => toMessageRef(context, epoch, item));
      const reached = { folder: context.path, epoch, uid, state: serializeState(state), newest };
      yield { messages, cursor: reached, ...(backlog && { backlog }) };
    }
    last = page.last;
  }
}

function startPosition(context: ReconcileContext, cursor: Cursor | undefined): Position {
  const { since } = context.mailbox.receive;
  if (!cursor) {
    const from = since === "now" ? context.start : Date.parse(since);
    return { epoch: EPOCH, uid: 0, newest: new Date().toISOString(), state: { sync: "", known: new Map(), from } };
  }
  const state = parseState(cursor.state);
  if (state) return { ...cursor, state };
  // The mailbox was received by another protocol before.
  return restartPosition(context, { ...cursor, state: { sync: "", known: new Map(), from: null } });
}

/**
 * The start of reading a folder from its beginning: as far back as a day before the newest message that was handed
 * over, or as before if the folder was already being read from its beginning. It uses a new epoch: the messages get
 * other numbers, and their content is then recognised as delivered and not taken for a twin.
 */
function restartPosition({ mailbox, path, emit }: ReconcileContext, { uid, newest, state }: Position): Position {
  const epoch = `${EPOCH}-${clock.now().toString(36)}`;
  emit?.({ kind: "mailbox.reset", mailbox: mailbox.id, folder: path, epoch });
  // Messages come newest first. If the folder was not read to its end, the missing ones may be as old as anything
  // that was asked for.
  const from = state.from ?? getResyncStart(mailbox, { folder: path, epoch, uid, state: null, newest });
  return { epoch, uid, newest, state: { sync: "", known: recentNumbers(state.known, uid, MAX_REMEMBERED), from } };
}

/**
 * What lay in the folder before, while it is read from its beginning; for the first time, or again because the server
 * lost the sync state.
 */
async function findBacklog(
  { session, folder }: ReconcileContext,
  { epoch, state: { from } }: Position,
  signal: AbortSignal,
): Promise<Arrival["backlog"]> {
  if (from === null) return undefined;
  const since = new Date(from);
  if (epoch === EPOCH) return { kind: "first", since: since.toISOString() };
  const total = await countReceivedSince(session, { folder }, since, signal);
  return { kind: "reread", since: since.toISOString(), total };
}

/**
 * The next page. It joins several pages while there are messages with numbers that were not handed over. Such a message
 * may have changed since and come in a later page. If the cursor passed its number before, the message would count as
 * handed over.
 */
async function nextPage(
  { session, folder }: ReconcileContext,
  { uid, state }: Position,
  onResponse: () => void,
  signal: AbortSignal,
): Promise<SyncPage | "invalid"> {
  const ahead = new Set([...state.known].filter(([, number]) => number > uid).map(([hash]) => hash));
  // A server may list a message twice.
  const items = new Map<string, SyncItem>();
  for (let sync = state.sync; ;) {
    const page = await syncFolderItems(session, { folder, state: sync }, signal);
    onResponse();
    if (page === "invalid") return page;
    if (page === "missing") throw new Problem("folder", GONE, { retry: "never" });
    for (const item of page.items) {
      items.set(item.key, withCredibleDate(item));
      ahead.delete(hashKey(item.key));
    }
    sync = page.state;
    if (page.last || ahead.size === 0) return { ...page, items: [...items.values()] };
  }
}

function withCredibleDate(item: SyncItem): SyncItem {
  return item.receivedAt === null || isCredibleDate(item.receivedAt) ? item : { ...item, receivedAt: null };
}

type NumberedItem = SyncItem & { uid: number; perhapsKnown?: boolean };
type Step = { items: NumberedItem[]; at: Position };

/**
 * The steps from one position to the position after the page: numbers are stored first, then each batch is handed over.
 */
function* planPage(at: Position, page: SyncPage): Generator<Step, void, undefined> {
  const { state } = at;
  const { from } = state;
  // A folder that is read from its beginning comes newest first.
  const wanted = page.items.filter(({ receivedAt }) => from === null || receivedAt === null || receivedAt >= from);
  const ended = { sync: page.state, from: page.last ? null : from };
  const toPosition = ({ known, ...reached }: Numbering, isLast: boolean): Position => ({
    ...at,
    ...reached,
    state: { ...state, ...(isLast && ended), known },
  });
  const steps = planSteps({ uid: at.uid, newest: at.newest, known: state.known }, wanted, MAX_REMEMBERED);
  let step = steps.next();
  for (; !step.done; step = steps.next()) {
    const { items, at: reached, isLast } = step.value;
    yield { items, at: toPosition(reached, isLast) };
  }
  const { at: reached, count } = step.value;
  if (count > 0 || (page.state === state.sync && ended.from === from)) return;
  yield { items: [], at: toPosition(reached, true) };
}

/**
 * A message without a date, or with one that cannot be true, counts as received now. So does a message that the server
 * delivered while the service watched and that it dates before the mailbox's start: its clock is wrong.
 */
function toMessageRef(
  { mailbox, path: folder, delivered }: ReconcileContext,
  epoch: string,
  { key, uid, size, receivedAt, perhapsKnown }: NumberedItem,
): MessageRef {
  const isFalse = receivedAt !== null && receivedAt < getMailboxStart(mailbox) && delivered?.has(key) === true;
  const undated = receivedAt === null || isFalse;
  const at = new Date(undated ? clock.now() : receivedAt).toISOString();
  const flags = { ...(undated && ({ undated } as const)), ...(perhapsKnown && ({ perhapsKnown: true } as const)) };
  return { folder, epoch, uid, size, receivedAt: at, key, ...flags };
}
