/** Compares a folder with its known state. New messages are handed over in batches, each with an exact cursor. */
import type { MailboxObject } from "imapflow";
import type { Arrival, Cursor, MessageRef } from "../../contract/message.ts";
import { splitIntoBatches } from "../batches.ts";
import { epochOf } from "./epoch.ts";
import { addGaps, closeGaps, type Gap, parseGaps, positionBelow, serializeGaps } from "./gaps.ts";
import { fetchNamedRows, search } from "./rows.ts";
import {
  createScan,
  type FolderContext,
  type FolderScan,
  type KnownFolder,
  listInBatches,
  MAX_LISTING_MS,
  type ReconcileContext,
  scanFolder,
  scanSince,
} from "./scan.ts";

/**
 * What is known of a watched folder. `cursor` is how far it was handed over without a gap. `gaps` are the uids up to
 * `seen` that are still missing.
 */
export type FolderState = KnownFolder & {
  gaps: Gap[];
  /** When the gaps were last asked for, as performance.now() counts. */
  checkedAt: number;
};

/** The state of a folder before its first comparison. */
export function folderState(cursor: Cursor | undefined): FolderState {
  const { seen = 0, gaps = [] } = parseGaps(cursor?.state ?? null) ?? {};
  return { cursor, seen: Math.max(seen, cursor?.uid ?? 0), gaps, count: null, listedAt: 0, checkedAt: 0 };
}

/**
 * Yields the new messages of one folder since its last comparison, uids ascending. Without a cursor it yields what
 * `since` asks for, and always a cursor. A message that the server names only in SEARCH is handed over without size and
 * date. After a new UIDVALIDITY it yields again what was received since a day before the newest message that was handed
 * over; the ledger knows what was delivered. It makes no requests while the caller is busy. `onResponse` is called with
 * each answer.
 */
export async function* reconcile(
  context: ReconcileContext,
  state: FolderState,
  onResponse: () => void,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const scan = await scanFolder(context, state, signal);
  onResponse();
  if (scan.kind !== "next") Object.assign(state, { seen: 0, gaps: [] });
  state.gaps = addGaps(state.gaps, scan.missing, scan.highestUid, performance.now());
  const advance = advancer(state, { folder: context.folder, epoch: scan.epoch });
  const batches = selectWanted(listInBatches(context, scan, signal), scan, onResponse);
  for await (const { messages, backlog } of scan.kind === "reset" ? countFirst(batches, scan) : batches)
    yield { messages, cursor: advance(messages, messages.at(-1)?.uid ?? 0), ...(backlog && { backlog }) };
  const end = state.cursor?.epoch === scan.epoch ? state.cursor.uid : undefined;
  if (scan.kind !== "next" && end !== positionBelow(state.gaps, Math.max(state.seen, scan.highestUid)))
    yield { messages: [], cursor: advance([], scan.highestUid) };
  state.seen = Math.max(state.seen, scan.highestUid);
  state.count = scan.count;
  if (scan.isListed) state.listedAt = performance.now();
}

/** Advances the state past messages, and returns the new cursor. */
function advancer(state: FolderState, { folder, epoch }: { folder: string; epoch: string }) {
  let newest = state.cursor?.newest ?? new Date().toISOString();
  return (messages: MessageRef[], seen: number): Cursor => {
    for (const { receivedAt } of messages) if (receivedAt > newest) newest = receivedAt;
    state.seen = Math.max(state.seen, seen);
    const kept = serializeGaps(state.seen, state.gaps);
    state.cursor = { folder, epoch, uid: positionBelow(state.gaps, state.seen), state: kept, newest };
    return state.cursor;
  };
}

type Batch = Pick<Arrival, "messages" | "backlog">;

type Bounds = Pick<FolderScan, "since" | "kind" | "doubtful">;

/** Batches of the wanted rows. If a message has no date, its content will show whether it is old. */
async function* selectWanted(
  portions: AsyncIterable<MessageRef[]>,
  scan: Bounds,
  onResponse: () => void,
): AsyncGenerator<Batch, void, undefined> {
  const backlog = scan.kind === "first" ? ({ kind: "first", since: sinceOf(scan) } as const) : undefined;
  for await (const rows of portions) {
    onResponse();
    const wanted = rows.filter((row) => isRecent(row, scan) || scan.doubtful.has(row.uid));
    for (const messages of splitIntoBatches(wanted)) yield { messages, ...(backlog && { backlog }) };
  }
}

function isRecent({ undated, receivedAt }: MessageRef, { since }: Bounds): boolean {
  return since === null || undated === true || Date.parse(receivedAt) >= since;
}

function sinceOf({ since }: Bounds): string {
  return new Date(since ?? 0).toISOString();
}

/**
 * Collects all messages of a folder that is read again, before the first is handed over, so that each batch has their
 * number.
 */
async function* countFirst(batches: AsyncIterable<Batch>, scan: Bounds): AsyncGenerator<Batch, void, undefined> {
  const all = await Array.fromAsync(batches);
  const total = all.flatMap(({ messages }) => messages.filter((row) => isRecent(row, scan))).length;
  const backlog = { kind: "reread", total, since: sinceOf(scan) } as const;
  for (const { messages } of all) yield { messages, backlog };
}

/**
 * Asks again for missing uids, and yields those that came. A uid that did not come in its time is given up: SEARCH has
 * said several times that it does not exist.
 */
export async function* recheckGaps(
  context: ReconcileContext,
  state: FolderState,
  onResponse: () => void,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const { session, folder } = context;
  const { cursor } = state;
  if (state.gaps.length === 0 || !cursor) return;
  const ask = async (box: MailboxObject) => {
    if (epochOf(box, cursor.epoch) !== cursor.epoch) return undefined;
    const range = state.gaps.map(({ from, to }) => (from === to ? `${from}` : `${from}:${to}`)).join(",");
    const found = await search(session, { uid: range });
    return found && fetchNamedRows({ session, folder, epoch: cursor.epoch }, found);
  };
  const rows = await session.runInFolder(folder, `Looking again in ${folder}`, ask, signal, { current: true });
  onResponse();
  state.checkedAt = performance.now();
  if (rows === undefined) return;
  const came = rows.filter(({ uid }) => state.gaps.some(({ from, to }) => uid >= from && uid <= to));
  state.gaps = closeGaps(
    state.gaps,
    came.map(({ uid }) => uid),
    performance.now(),
  );
  const uid = positionBelow(state.gaps, state.seen);
  if (came.length === 0 && uid === cursor.uid) return;
  state.cursor = { ...cursor, uid, state: serializeGaps(state.seen, state.gaps) };
  if (came.length === 0) yield { messages: [], cursor: state.cursor };
  for (const messages of splitIntoBatches(came)) yield { messages, cursor: state.cursor };
}

/** Messages of a folder received at or after a date, in batches, whatever the cursor says. */
export async function* listReceivedSince(
  context: FolderContext,
  known: Cursor | undefined,
  since: Date,
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  const { session, folder } = context;
  const work = (box: MailboxObject) =>
    scanSince(context, createScan(box, epochOf(box, known?.epoch), "next"), since.getTime());
  const scan = await session.runInFolder(folder, `Searching ${folder}`, work, signal, {
    capMs: MAX_LISTING_MS,
    current: true,
  });
  const batches = selectWanted(listInBatches(context, scan, signal), scan, () => undefined);
  for await (const { messages } of batches) yield messages;
}

/** Messages of a folder with one of these Message-IDs, in batches. Ids that the folder does not have are skipped. */
export async function* findByMessageIds(
  context: FolderContext,
  messageIds: string[],
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  const { session, folder } = context;
  const find = async (box: MailboxObject): Promise<FolderScan> => {
    const uids = new Set<number>();
    for (const id of messageIds) {
      signal.throwIfAborted();
      for (const uid of (await search(session, { header: { "message-id": id } })) ?? []) uids.add(uid);
    }
    const scan = createScan(box, epochOf(box, undefined), "next");
    return { ...scan, uids: [...uids].toSorted((a, b) => a - b) };
  };
  const scan = await session.runInFolder(folder, `Searching ${folder}`, find, signal, {
    capMs: MAX_LISTING_MS,
    current: true,
  });
  for await (const rows of listInBatches(context, scan, signal)) yield* splitIntoBatches(rows);
}
