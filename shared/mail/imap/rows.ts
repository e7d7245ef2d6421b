/** What the server reports about messages without their content: uid, size and date, and when a date is credible. */
import type { FetchMessageObject, SearchObject } from "imapflow";
import type { MessageRef } from "../../contract/message.ts";
import { sleep } from "../../time.ts";
import { isCredibleDate } from "../since.ts";
import { isRefusal, type Session } from "./session.ts";

/**
 * A refused FETCH or SEARCH is tried once more on the same connection, because servers refuse for a moment
 * (`[SERVERBUG]`, `[INUSE]`).
 */
const REFUSAL_PAUSE_MS = 300;

/** Where messages are listed: the selected folder, with the epoch of its uids. */
export type ListingContext = { session: Session; folder: string; epoch: string };

/**
 * When the server received a message, in milliseconds. Undefined if it reports no date (NIL), or an impossible one: in
 * the future, or before IMAP existed.
 */
export function getServerDate({ internalDate }: Pick<FetchMessageObject, "internalDate">): number | undefined {
  const time = internalDate === undefined ? Number.NaN : new Date(internalDate).getTime();
  return isCredibleDate(time) ? time : undefined;
}

/** Size and date of a message as a row reports them. Without a date it counts as received now. */
export function readRow(ref: MessageRef, row: Pick<FetchMessageObject, "size" | "internalDate">): MessageRef {
  const { undated: _, ...bare } = ref;
  const date = getServerDate(row);
  const size = row.size ?? ref.size;
  if (date !== undefined) return { ...bare, size, receivedAt: new Date(date).toISOString() };
  return row.internalDate === undefined ? { ...ref, size } : { ...bare, size, undated: true };
}

/** A message of which only the existence is known. */
export function unlistedRef({ folder, epoch }: ListingContext, uid: number): MessageRef {
  return { folder, epoch, uid, size: 0, receivedAt: new Date().toISOString(), undated: true };
}

/**
 * The rows of a range of the selected folder, uids ascending, without those that the server leaves out. Rows may come
 * twice.
 */
export async function fetchRows(context: ListingContext, range: string): Promise<MessageRef[]> {
  const { client } = context.session;
  return retryRefused(context.session, async () => {
    const found = new Map<number, MessageRef>();
    const query = { uid: true, size: true, internalDate: true };
    for await (const row of client.fetch(range, query, { uid: true })) {
      // The row of a flag change has a uid and nothing else.
      if (!row.uid || (found.has(row.uid) && row.size === undefined)) continue;
      found.set(row.uid, readRow(unlistedRef(context, row.uid), row));
    }
    return [...found.values()].toSorted((a, b) => a.uid - b.uid);
  });
}

/**
 * Messages that SEARCH named, uids ascending, each with its row. A missing row is asked for once more. If it still does
 * not come, the message is listed without size and date: it exists, and its content may come.
 */
export async function fetchNamedRows(context: ListingContext, uids: number[]): Promise<MessageRef[]> {
  if (uids.length === 0) return [];
  const wanted = new Set(uids);
  const rows = new Map((await fetchRows(context, toSequenceSet(uids))).map((row) => [row.uid, row]));
  const missing = uids.filter((uid) => !rows.has(uid));
  if (missing.length > 0) for (const row of await fetchRows(context, toSequenceSet(missing))) rows.set(row.uid, row);
  return [...wanted].toSorted((a, b) => a - b).map((uid) => rows.get(uid) ?? unlistedRef(context, uid));
}

/** Ascending uids of the selected folder; undefined when the server refuses the search. */
export async function search(session: Session, query: SearchObject): Promise<number[] | undefined> {
  const once = () => session.client.search(query, { uid: true });
  let found = await once();
  if (!Array.isArray(found)) {
    await sleep(REFUSAL_PAUSE_MS, session.ended);
    found = await once();
  }
  return Array.isArray(found) ? found.toSorted((a, b) => a - b) : undefined;
}

/** Tries once more after a refusal. */
async function retryRefused<T>({ ended }: Session, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!isRefusal(error)) throw error;
    await sleep(REFUSAL_PAUSE_MS, ended);
    return work();
  }
}

/** Ascending uids as a short IMAP sequence set: 1:3,7. */
export function toSequenceSet(uids: number[]): string {
  return toRanges(uids)
    .map(({ from, to }) => (from === to ? `${from}` : `${from}:${to}`))
    .join(",");
}

export type UidRange = { from: number; to: number };

/** Ascending uids as ranges without gaps. */
export function toRanges(uids: number[]): UidRange[] {
  const ranges: UidRange[] = [];
  for (const uid of uids) {
    const open = ranges.at(-1);
    if (open && uid === open.to + 1) open.to = uid;
    else ranges.push({ from: uid, to: uid });
  }
  return ranges;
}
