/** Scans a folder once: which messages come after the known ones. If rows are missing, SEARCH decides. */
import type { MailboxObject } from "imapflow";
import type { Mailbox } from "../../contract/mailbox.ts";
import type { Cursor, MessageRef } from "../../contract/message.ts";
import { Problem } from "../../contract/problem.ts";
import type { Emit } from "../../telemetry/events.ts";
import { getResyncStart } from "../since.ts";
import { epochOf, nextGeneration } from "./epoch.ts";
import { missingRanges } from "./gaps.ts";
import { fetchNamedRows, fetchRows, type ListingContext, search, type UidRange } from "./rows.ts";
import type { Session } from "./session.ts";

const MINUTE = 60 * 1000;
const DAY = 24 * 60 * MINUTE;
/**
 * Rows that are listed in one turn. A larger backlog is found by SEARCH first, so that it is never in memory as a
 * whole.
 */
const LIST_BATCH_SIZE = 500;
const MAX_DIRECT_SPAN = 1000;
export const MAX_LISTING_MS = 10 * MINUTE;
/** So many uids at the end of a folder are asked for one by one, beside what SEARCH names. */
const LAST_SPAN = 200;
/** How long a folder without news is believed to have none without asking for rows. */
const MAX_BELIEVED_MS = 10 * MINUTE;
/** So many messages of a renumbered folder are looked at where no date is recent. */
const MAX_DOUBTFUL = 10;

export type FolderContext = { session: Session; mailbox: Mailbox; folder: string; emit?: Emit | undefined };

/**
 * `start` is what "now" means for a folder without a cursor, in milliseconds. `isAfresh` says that the folder was just
 * selected, so that what the server said of it then is true now.
 */
export type ReconcileContext = FolderContext & { start: number; isAfresh: boolean };

/** The result of a scan. */
export type FolderScan = {
  epoch: string;
  /** The highest possible uid. The next scan continues after it. */
  highestUid: number;
  /** Only messages received since this time (milliseconds); null means all. */
  since: number | null;
  /** Messages of a renumbered folder whose dates cannot be believed: their content will tell whether they are old. */
  doubtful: ReadonlySet<number>;
  /** Messages that were listed already, and the uids of those to list; both ascending. */
  rows: MessageRef[];
  uids: number[];
  /** Missing uids, although higher ones came or were announced. */
  missing: UidRange[];
  uidNext: number | null;
  count: number;
  /** Whether the rows after the known ones were asked for. */
  isListed: boolean;
  /** `first`: the folder had no cursor. `reset`: its server renumbered it. */
  kind: "first" | "reset" | "next";
};

/**
 * What is known of a folder before a scan. `seen` is the highest uid that was compared, `count` how many messages there
 * were then, and `listedAt` when rows were last asked for, as performance.now() counts.
 */
export type KnownFolder = { cursor: Cursor | undefined; seen: number; count: number | null; listedAt: number };

/** Scans the folder once, in one turn on the connection. */
export function scanFolder(context: ReconcileContext, known: KnownFolder, signal: AbortSignal): Promise<FolderScan> {
  const { cursor } = known;
  const { session, mailbox, folder } = context;
  const reset = (box: MailboxObject, epoch: string, last: Cursor) => {
    context.emit?.({ kind: "mailbox.reset", mailbox: mailbox.id, folder, epoch });
    return scanSince(context, createScan(box, epoch, "reset"), getResyncStart(mailbox, last));
  };
  const look = async (box: MailboxObject): Promise<FolderScan> => {
    const epoch = epochOf(box, cursor?.epoch);
    if (!cursor) {
      const { since } = mailbox.receive;
      return scanSince(context, createScan(box, epoch, "first"), since === "now" ? context.start : Date.parse(since));
    }
    if (cursor.epoch !== epoch) return reset(box, epoch, cursor);
    const scan = createScan(box, epoch, "next");
    if (context.isAfresh && isUnchanged(scan, known)) return { ...scan, isListed: false };
    if (scan.uidNext === null || scan.uidNext > cursor.uid) return scanAfter(context, scan, known);
    const uidNext = await verifyUidNext(context, scan.uidNext, cursor);
    if (uidNext === "back") return reset(box, nextGeneration(epoch), cursor);
    return scanAfter(context, { ...scan, uidNext, highestUid: (uidNext ?? 1) - 1 }, known);
  };
  return session.runInFolder(folder, `Comparing ${folder}`, look, signal, { capMs: MAX_LISTING_MS });
}

/**
 * The server says that nothing came and nothing went. An UIDNEXT may be wrong, and one message may have come while another
 * one went, so this is believed for some minutes only.
 */
function isUnchanged({ uidNext, count }: FolderScan, known: KnownFolder): boolean {
  return uidNext === known.seen + 1 && count === known.count && performance.now() < known.listedAt + MAX_BELIEVED_MS;
}

/** What is known of the selected folder before any request. */
export function createScan(box: MailboxObject, epoch: string, kind: FolderScan["kind"]): FolderScan {
  const uidNext = box.uidNext || null;
  const highestUid = uidNext === null ? 0 : uidNext - 1;
  return {
    epoch,
    highestUid,
    since: null,
    rows: [],
    uids: [],
    missing: [],
    uidNext,
    count: box.exists,
    isListed: true,
    kind,
    doubtful: new Set(),
  };
}

/**
 * UIDNEXT is at or below a uid that was handed over. If the server still has messages at or above it, its UIDNEXT means
 * nothing (null). If STATUS reports a higher one, that one counts. Otherwise the server went back, for example after it
 * was restored from a backup: under the same UIDVALIDITY it will give used uids to new messages.
 */
async function verifyUidNext(
  { session, folder }: FolderContext,
  uidNext: number,
  cursor: Cursor,
): Promise<number | null | "back"> {
  const found = await search(session, { uid: `${uidNext}:*` });
  // `n:*` also names the last message if its uid is below n.
  if (found === undefined || found.some((uid) => uid >= uidNext)) return null;
  const status = await session.client.status(session.pathOf(folder), { uidNext: true });
  const newer = status ? (status.uidNext ?? 0) : 0;
  return newer > cursor.uid ? newer : "back";
}

async function scanAfter(context: FolderContext, scan: FolderScan, known: KnownFolder): Promise<FolderScan> {
  const { session } = context;
  const from = known.seen + 1;
  const span = scan.uidNext === null ? scan.count : scan.uidNext - from;
  // The UIDNEXT of an open folder is that of its last SELECT. What came since then shows in the number of its messages.
  const came = known.count === null ? 0 : scan.count - known.count;
  const many = Math.max(span, came) > MAX_DIRECT_SPAN;
  const named = many ? await search(session, { uid: `${from}:*` }) : undefined;
  // `n:*` also names the last message if its uid is below n (RFC 3501 section 6.4.8).
  const uids = named?.filter((uid) => uid >= from);
  if (uids) {
    const highestUid = Math.max(scan.highestUid, uids.at(-1) ?? 0);
    return { ...scan, uids, highestUid, missing: missingRanges(from, highestUid, uids) };
  }
  const listing = listingContext(context, scan);
  const rows = (await fetchRows(listing, `${from}:*`)).filter(({ uid }) => uid >= from);
  const highestUid = Math.max(scan.highestUid, rows.at(-1)?.uid ?? 0);
  const missing = missingRanges(from, highestUid, uidsOf(rows));
  if (missing.length === 0) return { ...scan, rows, highestUid };
  // A missing row is no proof that the message does not exist.
  const found = (await search(session, { uid: `${from}:${highestUid}` })) ?? [];
  const listed = new Set(uidsOf(rows));
  const more = await fetchNamedRows(
    listing,
    found.filter((uid) => uid >= from && uid <= highestUid && !listed.has(uid)),
  );
  const all = [...rows, ...more].toSorted((a, b) => a.uid - b.uid);
  return { ...scan, rows: all, highestUid, missing: missingRanges(from, highestUid, uidsOf(all)) };
}

/**
 * Messages received since then. SEARCH names them, and the rows of the last uids name those that SEARCH left out. Of a folder that was
 * renumbered every one of these uids is accounted for; at the first look only those behind the last older message, because uids ascend as
 * messages arrive.
 */
export async function scanSince(context: FolderContext, empty: FolderScan, since: number): Promise<FolderScan> {
  // SEARCH knows days only, in the server's time zone (RFC 3501 section 6.4.4): a day early, then by the exact time.
  const named = await search(context.session, { since: new Date(since - DAY) });
  const { scan, last, from } = await scanEnd(context, { ...empty, since });
  if (named === undefined) return { ...scan, rows: await fetchRows(listingContext(context, scan), "1:*") };
  const isReset = scan.kind === "reset";
  const old = last.filter((row) => !row.undated && Date.parse(row.receivedAt) < since);
  const doubtful = isReset ? findDoubtful(last, since) : [];
  const recent = last.filter((row) => (row.undated ? isReset : Date.parse(row.receivedAt) >= since));
  const uids = ascending([...named, ...uidsOf(recent), ...doubtful]);
  const highestUid = Math.max(scan.highestUid, uids.at(-1) ?? 0);
  const present = ascending([...uids, ...uidsOf(last)]);
  const missing = missingRanges(isReset ? from : Math.max(from, highestOf(old) + 1), highestUid, present);
  return { ...scan, uids, highestUid, missing, doubtful: new Set(doubtful) };
}

/**
 * Messages with dates before `since` of which the dates may be wrong: uids ascend as messages arrive, so an old date behind a recent one
 * is out of order; and where no date is recent at all, the last messages are the ones to look at.
 */
function findDoubtful(last: MessageRef[], since: number): number[] {
  const isOld = (row: MessageRef) => !row.undated && Date.parse(row.receivedAt) < since;
  const firstRecent = last.findIndex((row) => !isOld(row));
  const behind = firstRecent < 0 ? last.slice(-MAX_DOUBTFUL) : last.slice(firstRecent);
  return uidsOf(behind.filter(isOld));
}

function ascending(uids: number[]): number[] {
  return [...new Set(uids)].toSorted((a, b) => a - b);
}

/** The rows of the last uids, from `from` on, and the highest uid that there is or was announced. */
async function scanEnd(
  context: FolderContext,
  scan: FolderScan,
): Promise<{ scan: FolderScan; last: MessageRef[]; from: number }> {
  const { uidNext, count } = scan;
  const fetchFrom = (range: string) => fetchRows(listingContext(context, scan), range);
  // UIDNEXT is only recommended (RFC 3501 section 6.3.1): without it the last message says where the end is.
  const end = uidNext ?? (count === 0 ? 1 : Math.max(0, ...uidsOf(await fetchFrom("*"))) + 1);
  const from = Math.max(1, end - LAST_SPAN);
  const last = count === 0 ? [] : (await fetchFrom(`${from}:*`)).filter(({ uid }) => uid >= from);
  const highestUid = Math.max(scan.highestUid, end - 1, last.at(-1)?.uid ?? 0);
  return { scan: { ...scan, highestUid }, last, from };
}

/** The rows of a scan in batches. Each is requested in a turn of its own. */
export async function* listInBatches(
  context: FolderContext,
  scan: FolderScan,
  signal: AbortSignal,
): AsyncGenerator<MessageRef[], void, undefined> {
  const { session, folder } = context;
  if (scan.rows.length > 0) yield scan.rows;
  for (let start = 0; start < scan.uids.length; start += LIST_BATCH_SIZE) {
    const uids = scan.uids.slice(start, start + LIST_BATCH_SIZE);
    const list = (box: MailboxObject) => {
      // These uids mean nothing any more. The next connection starts from the cursor.
      if (epochOf(box, scan.epoch) !== scan.epoch)
        throw new Problem("unavailable", `The server renumbered ${folder} while it was listed`);
      return fetchNamedRows(listingContext(context, scan), uids);
    };
    yield await session.runInFolder(folder, `Listing ${folder}`, list, signal, { capMs: MAX_LISTING_MS });
  }
}

function listingContext({ session, folder }: FolderContext, { epoch }: FolderScan): ListingContext {
  return { session, folder, epoch };
}

const uidsOf = (rows: MessageRef[]) => rows.map(({ uid }) => uid);
const highestOf = (rows: MessageRef[]) => Math.max(0, ...uidsOf(rows));
