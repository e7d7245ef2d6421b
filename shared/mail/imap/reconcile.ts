/** Comparing a folder with its cursor: what lies after it, handed over in batches that each end in an exact cursor. */
import type { FetchMessageObject, MailboxObject, SearchObject } from "imapflow";
import type { Mailbox } from "../../contract/mailbox.ts";
import type { Arrival, Cursor, MessageRef } from "../../contract/message.ts";
import type { Emit } from "../../telemetry/events.ts";
import { batches } from "../batches.ts";
import { overlap } from "../since.ts";
import type { Session } from "./session.ts";

const MINUTE = 60 * 1000;
const DAY = 24 * 60 * MINUTE;
/** Rows listed in one turn; a larger backlog is found by SEARCH first, so that it never lies in memory as a whole. */
const LISTED_AT_ONCE = 500;
const DIRECT_SPAN = 1000;
const LISTING_CAP_MS = 10 * MINUTE;

export type Place = { session: Session; mailbox: Mailbox; folder: string; emit?: Emit | undefined };

/** `start` is what "now" means for a folder without a cursor, in milliseconds. */
export type Comparing = Place & { start: number };

/** What a first look at the folder found: rows that were listed at once, or the uids to list. */
type Survey = {
  epoch: string;
  /** The highest uid that existed when it was looked at; the cursor ends there even if nothing is handed over. */
  top: number;
  /** Only messages received since then (milliseconds). */
  since: number | null;
  rows: MessageRef[];
  uids: number[];
  next: number | null;
};

/**
 * Yields what lies after `cursor` in one folder, uids ascending; without a cursor what `since` asks for, and always a cursor.
 * After a new UIDVALIDITY it yields again what was received since a day before the newest message handed over: the ledger
 * knows what was delivered. Nothing is asked of the server while the caller is busy. Each server answer is told by `heard`.
 */
export async function* reconcile(
  place: Comparing,
  cursor: Cursor | undefined,
  heard: (uidNext: number | null) => void,
  signal: AbortSignal,
): AsyncGenerator<Arrival, void, undefined> {
  const survey = await surveyed(place, cursor, signal);
  heard(survey.next);
  const fresh = cursor?.epoch !== survey.epoch;
  let newest = cursor?.newest ?? new Date().toISOString();
  let at = fresh ? 0 : cursor.uid;
  let moved = !fresh;
  const arrival = (messages: MessageRef[], uid: number): Arrival => {
    for (const message of messages) if (message.receivedAt > newest) newest = message.receivedAt;
    at = uid;
    moved = true;
    return { messages, cursor: { folder: place.folder, epoch: survey.epoch, uid, state: null, newest } };
  };
  for await (const rows of listed(place, survey, signal)) {
    heard(null);
    const wanted = rows.filter((row) => survey.since === null || Date.parse(row.receivedAt) >= survey.since);
    for (const batch of batches(wanted)) yield arrival(batch, batch.at(-1)?.uid ?? at);
  }
  if (!moved || (fresh && at < survey.top)) yield arrival([], Math.max(at, survey.top));
}

/** Messages of a folder received at or after a date, in batches, whatever the cursor. */
export async function* receivedSince(
  place: Place,
  since: Date,
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  const { session, folder } = place;
  const survey = await session.inFolder(
    folder,
    `Searching ${folder}`,
    (box) => dated(place, box, since.getTime()),
    signal,
    { capMs: LISTING_CAP_MS, current: true },
  );
  for await (const rows of listed(place, survey, signal)) {
    yield* batches(rows.filter((row) => Date.parse(row.receivedAt) >= since.getTime()));
  }
}

/** Messages of a folder whose Message-ID field is one of these, in batches; ids that the folder does not have are skipped. */
export async function* withMessageIds(
  place: Place,
  messageIds: string[],
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  const { session, folder } = place;
  const find = async (box: MailboxObject): Promise<Survey> => {
    const uids = new Set<number>();
    for (const id of messageIds) {
      signal.throwIfAborted();
      for (const uid of (await search(session, { header: { "message-id": id } })) ?? []) uids.add(uid);
    }
    return { ...bare(box), uids: [...uids].toSorted((a, b) => a - b) };
  };
  const survey = await session.inFolder(folder, `Searching ${folder}`, find, signal, {
    capMs: LISTING_CAP_MS,
    current: true,
  });
  for await (const rows of listed(place, survey, signal)) yield* batches(rows);
}

function surveyed(place: Comparing, cursor: Cursor | undefined, signal: AbortSignal): Promise<Survey> {
  const { session, mailbox, folder } = place;
  const look = (box: MailboxObject): Promise<Survey> => {
    if (cursor && cursor.epoch === String(box.uidValidity)) return after(place, box, cursor.uid);
    if (cursor) {
      place.emit?.({ kind: "mailbox.reset", mailbox: mailbox.id, folder, epoch: String(box.uidValidity) });
      return dated(place, box, overlap(mailbox, cursor));
    }
    const { since } = mailbox.receive;
    return dated(place, box, since === "now" ? place.start : Date.parse(since));
  };
  return session.inFolder(folder, `Comparing ${folder}`, look, signal, { capMs: LISTING_CAP_MS });
}

function bare(box: MailboxObject): Survey {
  const next = box.uidNext || null;
  return { epoch: String(box.uidValidity), top: next ? next - 1 : 0, since: null, rows: [], uids: [], next };
}

async function after(place: Place, box: MailboxObject, uid: number): Promise<Survey> {
  const survey = bare(box);
  const many = survey.next === null ? box.exists > DIRECT_SPAN : survey.next - uid > DIRECT_SPAN;
  const uids = many ? await search(place.session, { uid: `${uid + 1}:*` }) : undefined;
  // `n:*` also names the last message when it lies before n (RFC 3501 section 6.4.8).
  if (uids) return { ...survey, uids: uids.filter((one) => one > uid) };
  const rows = await rowsOf(place, `${uid + 1}:*`);
  return { ...survey, rows: rows.filter((row) => row.uid > uid) };
}

async function topOf(place: Place, box: MailboxObject): Promise<Survey> {
  const survey = bare(box);
  if (survey.next !== null || box.exists === 0) return survey;
  // UIDNEXT is only recommended (RFC 3501 section 6.3.1): without it the last message says where now is.
  const rows = await rowsOf(place, "*");
  return { ...survey, top: Math.max(0, ...rows.map((row) => row.uid)) };
}

async function dated(place: Place, box: MailboxObject, since: number): Promise<Survey> {
  const survey = { ...(await topOf(place, box)), since };
  // SEARCH knows days only, in the server's time zone (RFC 3501 section 6.4.4): a day early, then by the exact time.
  const uids = await search(place.session, { since: new Date(since - DAY) });
  return uids ? { ...survey, uids } : { ...survey, rows: await rowsOf(place, "1:*") };
}

/** Ascending uids, or undefined when the server refuses the search. */
async function search(session: Session, query: SearchObject): Promise<number[] | undefined> {
  const found = await session.client.search(query, { uid: true });
  return Array.isArray(found) ? found.toSorted((a, b) => a - b) : undefined;
}

/** The rows of a survey in portions, each asked for in a turn of its own. */
async function* listed(
  place: Place,
  survey: Survey,
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  const { session, folder } = place;
  if (survey.rows.length > 0) yield survey.rows;
  for (let start = 0; start < survey.uids.length; start += LISTED_AT_ONCE) {
    const range = compact(survey.uids.slice(start, start + LISTED_AT_ONCE));
    const list = (box: MailboxObject) =>
      // Renumbered while the caller was busy: these uids mean nothing any more, the next look starts over.
      String(box.uidValidity) === survey.epoch ? rowsOf(place, range) : Promise.resolve(undefined);
    const rows = await session.inFolder(folder, `Listing ${folder}`, list, signal, { capMs: LISTING_CAP_MS });
    if (rows === undefined) return;
    yield rows;
  }
}

/** Lists messages of the selected folder, uids ascending. A message that somebody else touches meanwhile may come twice. */
async function rowsOf({ session, folder }: Place, range: string): Promise<MessageRef[]> {
  const { client } = session;
  const box = client.mailbox;
  if (!box) return [];
  const epoch = String(box.uidValidity);
  const found = new Map<number, MessageRef>();
  for await (const row of client.fetch(range, { uid: true, size: true, internalDate: true }, { uid: true })) {
    if (!row.uid || (found.has(row.uid) && row.size === undefined)) continue;
    const { uid, size = 0 } = row;
    found.set(uid, { folder, epoch, uid, size, receivedAt: receivedAt(row) });
  }
  return [...found.values()].toSorted((a, b) => a.uid - b.uid);
}

function receivedAt(row: FetchMessageObject): string {
  const time = row.internalDate === undefined ? Number.NaN : new Date(row.internalDate).getTime();
  return new Date(Number.isNaN(time) ? Date.now() : time).toISOString();
}

/** Ascending uids as a short IMAP sequence set: 1:3,7. */
export function compact(uids: number[]): string {
  const ranges: [number, number][] = [];
  for (const uid of uids) {
    const open = ranges.at(-1);
    if (open && uid === open[1] + 1) open[1] = uid;
    else ranges.push([uid, uid]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}:${to}`)).join(",");
}
