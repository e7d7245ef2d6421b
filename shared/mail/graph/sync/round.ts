/**
 * Reads a folder page by page: the delta that Graph gives, and lists by date where a delta may lack something. Each page
 * says from where the next one goes on.
 */
import type { MailboxOf } from "../../../contract/mailbox.ts";
import { Problem } from "../../../contract/problem.ts";
import type { Emit } from "../../../telemetry/events.ts";
import { clock } from "../../../time.ts";
import { hashKey } from "../../assigned-uids.ts";
import { GONE } from "../../exchange/folder-faults.ts";
import type { GraphSession } from "../client/session.ts";
import type { GraphState } from "./cursor.ts";
import { readDeltaPage } from "./delta.ts";
import { getFolder, type WatchedFolder } from "./folders.ts";
import { listReceivedSince, type ListPage } from "./listing.ts";
import { isThinned, type MessageRow, readRow, type SyncItem, toSyncItem } from "./messages.ts";

export type ReconcileContext = {
  session: GraphSession;
  mailbox: MailboxOf<"graph">;
  folder: WatchedFolder;
  emit?: Emit | undefined;
  /** What "now" means for a folder without a cursor, in milliseconds since 1970. */
  start: number;
};

/** What was read, the state after it, and whether there is nothing more to read now. */
export type Page = { items: SyncItem[]; state: GraphState; isLast: boolean; isFull?: true };

/** The epoch of all messages, as long as no other protocol received the mailbox. */
export const EPOCH = "graph";
const MINUTE = 60_000;
export const DAY_MS = 24 * 60 * MINUTE;
/** A folder with more messages is compared through a filter, because a whole first round would be long. */
const MAX_WHOLE_FOLDER = 5_000;
/** A filtered round that is longer may have been cut at 5,000. */
const CUT_ROUND = 4_900;
/** A filter is renewed after so many messages or so much time, because nobody knows whether the cut counts later rounds. */
const MAX_FILTERED = 4_000;
const MAX_FILTER_AGE_MS = 30 * DAY_MS;
/** How far the clocks of Graph and of this machine may differ. */
export const OVERLAP_MS = 10 * MINUTE;
/** How far back messages are listed that a delta did not give. */
const LISTED_MS = 60 * MINUTE;
/** A link is used again for so long while nothing changes. */
const MAX_LINK_AGE_MS = 15 * MINUTE;
const MAX_PASSED = 500;
/** Of more thinned rows in a page each is not asked for: the messages of the last day are listed instead. */
const MAX_ROWS_READ = 50;

/** Where to read on: the state, and the newest message that was handed over. */
type ReadFrom = { newest: string; state: GraphState };

/** One page: of a listing by date if one is due, else of the delta. */
export async function readPage(context: ReconcileContext, at: ReadFrom, signal: AbortSignal): Promise<Page> {
  const { session, folder } = context;
  const { state } = at;
  const betweenRounds = state.link !== null && state.link === state.round;
  if (state.listing !== null && betweenRounds) {
    const { items, next } = await listReceivedSince(session, folder.id, state.listing, signal);
    return { items, state: { ...state, listing: next, from: next === null ? null : state.from }, isLast: false };
  }
  if (state.link === null) return beginRound(context, at, signal);
  const floor = betweenRounds ? Math.min(Date.parse(at.newest), clock.now()) : state.floor;
  return continueRound(context, { ...at, state: { ...state, floor } }, state.link, signal);
}

/** The first page of a new delta: of the whole folder if it is small, else of what comes from now on. */
async function beginRound(context: ReconcileContext, at: ReadFrom, signal: AbortSignal): Promise<Page> {
  const { session, folder } = context;
  const { state } = at;
  const found = await getFolder(session, folder.id, signal);
  if (!found) throw new Problem("folder", GONE, { retry: "never" });
  const from = state.from ?? state.since;
  const isSmall = found.count <= MAX_WHOLE_FOLDER;
  const now = clock.now();
  const filter = isSmall ? null : { from: Math.max(state.since, now - OVERLAP_MS), begun: now, seen: 0 };
  // In a large folder the delta only begins at this point. What lies before is listed by its date.
  const begun = { ...state, filter, listing: isSmall ? null : from };
  const page = await readDeltaPage(session, folder.id, { filter: filter?.from ?? null }, signal);
  if (page === "dead")
    throw new Problem("protocol", `Microsoft Graph gives no comparison of ${folder.name || folder.path}`);
  return toPage(context, { ...at, state: begun }, page, signal);
}

async function continueRound(
  context: ReconcileContext,
  at: ReadFrom,
  link: string,
  signal: AbortSignal,
): Promise<Page> {
  const { state } = at;
  const page = await readDeltaPage(context.session, context.folder.id, { link }, signal);
  if (page !== "dead") return toPage(context, at, page, signal);
  // A link to a page dies sooner than the link for the whole round.
  if (state.round !== null && state.round !== link)
    return { items: [], state: { ...state, link: state.round }, isLast: false };
  return { items: [], state: restart(context, at), isLast: false };
}

/** The state for a round from the beginning, as far back as a day before the newest message that was handed over. */
function restart({ mailbox, folder, emit }: ReconcileContext, at: ReadFrom): GraphState {
  emit?.({ kind: "mailbox.reset", mailbox: mailbox.id, folder: folder.path, epoch: EPOCH });
  const { state } = at;
  // If the folder was not read to its end, the missing messages may be as old as anything that was asked for.
  const from = state.from ?? reachBack(at, DAY_MS);
  return { ...state, link: null, round: null, filter: null, listing: null, floor: null, from };
}

/** So much before the newest message that was handed over before this round, but not before what is wanted at all. */
function reachBack({ newest, state }: ReadFrom, ms: number): number {
  const newestAt = Math.min(Date.parse(newest), state.floor ?? Infinity, clock.now());
  return Math.max(newestAt - ms, state.since);
}

type DeltaResult = Exclude<Awaited<ReturnType<typeof readDeltaPage>>, "dead">;

async function toPage(context: ReconcileContext, at: ReadFrom, page: DeltaResult, signal: AbortSignal): Promise<Page> {
  const { session, folder } = context;
  const { state } = at;
  if (page === "missing") throw new Problem("folder", GONE, { retry: "never" });
  if (page === "full") return listFullMailbox(context, at, signal);
  const { rows, link, isRoundEnd } = page;
  if (isRoundEnd && rows.length === 0 && isFresh(state))
    return { items: [], state: { ...state, floor: null }, isLast: true };
  const { items, tooMany } = await readItems(session, { rows, folder: folder.id, state, newest: at.newest }, signal);
  const seen = state.filter ? { filter: { ...state.filter, seen: state.filter.seen + rows.length } } : {};
  const listing = tooMany ? Math.min(state.listing ?? Infinity, reachBack(at, DAY_MS)) : state.listing;
  const next = { ...state, ...seen, link, listing, passed: passedAfter(state, items) };
  // What is listed anyway is not taken from the beginning of a large folder's delta.
  const wanted = state.from !== null && state.listing !== null ? [] : items;
  if (!isRoundEnd) return { items: wanted, state: next, isLast: false };
  const ended = endRound({ ...at, state: { ...next, round: link, stored: clock.now() } });
  return { items: wanted, state: ended, isLast: ended.listing === null && ended.link !== null };
}

/**
 * True if the link that was used may be used again. Graph gives another one after each round, also if nothing changed. To
 * store it each time would be a write for every look at every idle folder.
 */
function isFresh({ link, round, from, listing, stored, filter }: GraphState): boolean {
  if (link !== round || from !== null || listing !== null) return false;
  if (filter !== null && filter.begun < clock.now() - MAX_FILTER_AGE_MS) return false;
  return clock.now() - stored < MAX_LINK_AGE_MS;
}

/** The state after the last page of a round. A round that may have been cut is completed by a listing. */
function endRound(at: ReadFrom): GraphState {
  const state = { ...at.state, floor: null };
  const { filter, listing, from } = state;
  if (filter !== null && filter.seen >= CUT_ROUND) {
    const missing = listing ?? from ?? reachBack(at, LISTED_MS);
    return { ...state, filter: { ...filter, seen: MAX_FILTERED }, listing: missing };
  }
  if (listing !== null) return state;
  const isOld = filter !== null && (filter.seen >= MAX_FILTERED || filter.begun < clock.now() - MAX_FILTER_AGE_MS);
  if (!isOld) return { ...state, from: null };
  const overlap = Math.max(clock.now() - LISTED_MS, state.since);
  return { ...state, from: overlap, link: null, round: null, filter: null };
}

/** While the mailbox is full, its messages are listed by date; the delta goes on later where it was. */
async function listFullMailbox(
  { session, folder }: ReconcileContext,
  at: ReadFrom,
  signal: AbortSignal,
): Promise<Page> {
  const { state } = at;
  const items: SyncItem[] = [];
  const first = state.listing ?? state.from ?? reachBack(at, LISTED_MS);
  for (let from: number | null = first; from !== null;) {
    const page: ListPage = await listReceivedSince(session, folder.id, from, signal);
    items.push(...page.items);
    from = page.next;
  }
  return { items, state, isLast: true, isFull: true };
}

type RowsOf = { rows: MessageRow[]; folder: string; state: GraphState; newest: string };

/**
 * The rows as messages. A row without its properties is one of which something else changed: it is asked for, unless it
 * is known. Only a recent one can be new. `tooMany` such rows are left to a listing.
 */
async function readItems(
  session: GraphSession,
  { rows, folder, state, newest }: RowsOf,
  signal: AbortSignal,
): Promise<{ items: SyncItem[]; tooMany: boolean }> {
  const byId = new Map(rows.map((row) => [row.id, row]));
  const last = [...byId.values()];
  const items = last.flatMap((row) => (isThinned(row) ? [] : (toSyncItem(row) ?? [])));
  const thinned = last.filter((row) => isThinned(row) && !state.known.has(hashKey(row.id)));
  if (thinned.length > MAX_ROWS_READ) return { items, tooMany: true };
  const oldest = Date.parse(newest) - DAY_MS;
  for (const { id } of thinned) {
    const row = await readRow(session, { id, folder }, signal);
    const item = row && toSyncItem(row);
    if (item && (item.receivedAt ?? 0) >= oldest) items.push(item);
  }
  return { items, tooMany: false };
}

/** The messages that lay in the folder within the clocks' difference before it was watched. */
function passedAfter({ from, since, passed }: GraphState, items: SyncItem[]): string[] {
  if (from === null) return passed;
  const lay = items.filter(({ receivedAt }) => receivedAt !== null && receivedAt >= since && receivedAt < from);
  const close = lay.filter(({ receivedAt }) => (receivedAt ?? 0) < since + OVERLAP_MS);
  return [...new Set([...passed, ...close.map(({ key }) => hashKey(key))])].slice(-MAX_PASSED);
}
