/**
 * Compares a folder with its cursor. Graph's delta says what appeared; new messages get numbers and are handed over in
 * batches, each with an exact cursor. A dead link begins a new round, and messages that were handed over are recognised
 * by their ids, or by their content.
 */
import type { Arrival, Cursor, MessageRef } from "../../../contract/message.ts";
import { clock } from "../../../time.ts";
import { hashKey } from "../../assigned-uids.ts";
import { type Numbering, planSteps, recentNumbers } from "../../numbered-steps.ts";
import { getResyncStart } from "../../since.ts";
import { type GraphState, parseState, serializeState } from "./cursor.ts";
import type { SyncItem } from "./messages.ts";
import { readMovedFolder } from "./moved-folder.ts";
import { EPOCH, OVERLAP_MS, type Page, readPage, type ReconcileContext } from "./round.ts";

/** How far a folder was handed over: a cursor with its state parsed. */
type Position = Omit<Cursor, "folder" | "state"> & { state: GraphState };

/** How many handed-over messages are recognised by their ids. Older ones are recognised by their content. */
const MAX_REMEMBERED = 1_000;
/**
 * Yields the messages after `cursor` in one folder. Without a cursor it yields what `since` asks for, and always a
 * cursor. Numbers are stored, by an arrival without messages, before the first message that has a new one. `onAnswer` is
 * called at every answer. Returns true if the mailbox is full, so that Graph gives no delta.
 */
export async function* reconcile(
  context: ReconcileContext,
  cursor: Cursor | undefined,
  onAnswer: () => void,
  signal: AbortSignal,
): AsyncGenerator<Arrival, boolean, undefined> {
  let position = await startPosition(context, cursor, signal);
  for (;;) {
    const { from, since } = position.state;
    const page = await nextPages(context, position, onAnswer, signal);
    const kind = from !== null && from <= since + OVERLAP_MS ? "first" : "reread";
    const backlog = from === null ? undefined : ({ kind, since: toDate(from) } as const);
    for (const step of planPage(position, page)) {
      position = step.at;
      yield { ...toArrival(context, step), ...(backlog && { backlog }) };
    }
    if (page.isLast) return page.isFull === true;
  }
}

async function startPosition(
  context: ReconcileContext,
  cursor: Cursor | undefined,
  signal: AbortSignal,
): Promise<Position> {
  const { mailbox, folder, start, emit } = context;
  const nothing = { link: null, stored: 0, round: null, floor: null, filter: null, listing: null, passed: [] };
  const fresh = { ...nothing, known: new Map<string, number>() };
  const wanted = mailbox.receive.since === "now" ? start : Date.parse(mailbox.receive.since);
  const since = mailbox.receive.since === "now" ? wanted - OVERLAP_MS : wanted;
  if (!cursor) {
    const state = { ...fresh, from: wanted, since };
    return { epoch: EPOCH, uid: 0, newest: toDate(clock.now()), state };
  }
  const state = parseState(cursor.state);
  if (state) return { ...cursor, state };
  // The mailbox was received by another protocol before. The messages get other numbers, and their content is
  // recognised as delivered and not taken for a twin.
  const epoch = `${EPOCH}-${clock.now().toString(36)}`;
  emit?.({ kind: "mailbox.reset", mailbox: mailbox.id, folder: folder.path, epoch });
  const moved = await readMovedFolder(context, cursor, signal);
  if (moved) {
    const { known, from } = moved;
    return { ...cursor, epoch, state: { ...fresh, known, from, since: from, movedAt: cursor.uid } };
  }
  const from = getResyncStart(mailbox, cursor);
  return { ...cursor, epoch, state: { ...fresh, from, since: Math.min(since, from) } };
}

/**
 * The next page. It joins several while there are messages with numbers that were not handed over. Such a message may
 * have changed since and come in a later page. If the cursor passed its number before, it would count as handed over.
 */
async function nextPages(
  context: ReconcileContext,
  { uid, newest, state }: Position,
  onAnswer: () => void,
  signal: AbortSignal,
): Promise<Page> {
  const ahead = new Set([...state.known].filter(([, number]) => number > uid).map(([hash]) => hash));
  // Graph may list a message several times in a round.
  const items = new Map<string, SyncItem>();
  for (let at = state; ;) {
    const page = await readPage(context, { newest, state: at }, signal);
    onAnswer();
    for (const item of page.items) {
      items.set(item.key, item);
      ahead.delete(hashKey(item.key));
    }
    at = page.state;
    if (page.isLast || ahead.size === 0) return { ...page, items: [...items.values()] };
  }
}

type NumberedItem = SyncItem & { uid: number; perhapsKnown: boolean };
type Step = { items: NumberedItem[]; at: Position };

/** The steps from one position to the position after the page. */
function* planPage(at: Position, page: Page): Generator<Step, void, undefined> {
  const { state } = at;
  const wanted = selectWanted(at, page.items);
  const toPosition = ({ known, ...reached }: Numbering, isLast: boolean): Position => ({
    ...at,
    ...reached,
    state: { ...(isLast ? page.state : state), known },
  });
  const steps = planSteps({ uid: at.uid, newest: at.newest, known: state.known }, wanted, MAX_REMEMBERED);
  let step = steps.next();
  for (; !step.done; step = steps.next()) {
    const { items, at: reached, isLast } = step.value;
    yield { items, at: toPosition(reached, isLast) };
  }
  const { at: reached, count } = step.value;
  if (count > 0 || serializeState({ ...page.state, known: state.known }) === serializeState(state)) return;
  yield { items: [], at: toPosition(reached, true) };
}

/**
 * The messages that are wanted. Where more messages were handed over than are remembered, one that is not plainly new
 * may be one of those.
 */
function selectWanted({ uid, newest, state }: Position, items: SyncItem[]): (SyncItem & { perhapsKnown: boolean })[] {
  const from = Math.max(state.from ?? state.since, state.since);
  const passed = new Set(state.passed);
  const isForgetful = recentNumbers(state.known, uid, MAX_REMEMBERED).size >= MAX_REMEMBERED;
  const oldest = Date.parse(newest) - OVERLAP_MS;
  return items
    .filter(({ receivedAt }) => receivedAt === null || receivedAt >= from)
    .filter(({ key }) => !passed.has(hashKey(key)))
    .map((item) => ({ ...item, perhapsKnown: isForgetful && (item.receivedAt ?? 0) < oldest }));
}

/**
 * Hands over messages that another look at the mailbox found in this folder. The comparison goes on where it was.
 * Without a state of this folder there is nothing to add to.
 */
export function* handOverFound(
  context: ReconcileContext,
  cursor: Cursor | undefined,
  items: SyncItem[],
): Generator<Arrival, void, undefined> {
  const state = cursor && parseState(cursor.state);
  // While the folder is read from its beginning, these messages come with it.
  if (!cursor || !state || state.from !== null) return;
  const page = { items, state, isLast: true };
  for (const step of planPage({ ...cursor, state }, page)) yield toArrival(context, step);
}

function toArrival({ folder }: ReconcileContext, { items, at }: Step): Arrival {
  const { epoch, uid, newest, state } = at;
  const messages = items.map((item) => toMessageRef(folder.path, epoch, item));
  return { messages, cursor: { folder: folder.path, epoch, uid, state: serializeState(state), newest } };
}

/** A message without a date, or with one that cannot be true, counts as received now. */
function toMessageRef(
  folder: string,
  epoch: string,
  { key, uid, size, receivedAt, perhapsKnown }: NumberedItem,
): MessageRef {
  const undated = receivedAt === null && ({ undated: true } as const);
  const receivedText = toDate(receivedAt ?? clock.now());
  return { folder, epoch, uid, size, receivedAt: receivedText, key, ...undated, ...(perhapsKnown && { perhapsKnown }) };
}

function toDate(time: number): string {
  return new Date(time).toISOString();
}
