/** A maildrop compared with its cursor: what is new gets numbers of ours, upwards, and is handed over in batches. */
import type { Arrival, Cursor, MessageRef } from "../../contract/message.ts";
import type { Emit } from "../../telemetry/events.ts";
import { batches } from "../batches.ts";
import { hashOf, type Known, numbering, readKnown, writtenKnown } from "../assigned-uids.ts";
import type { Pop3Mailbox } from "./client.ts";
import { type Listed, receivedAt } from "./listing.ts";
import type { Maildrop } from "./maildrops.ts";

/** POP3 has one folder, and numbers that are ours need no epoch of the server's. */
export const FOLDER = "INBOX";
export const EPOCH = "pop3";

type Numbered = Listed & { uid: number };
type Dated = Numbered & { at: number };
/**
 * What one look found. `unkept` says that some numbers are new. `from` leaves out what was received before it; null takes all that
 * is new. `unknown` is when a message was received that does not tell; null for now, as better delivered than missed.
 */
type Look = {
  fresh: Numbered[];
  state: string;
  unkept: boolean;
  top: number;
  from: number | null;
  unknown: number | null;
};

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** More messages than this are not looked after: the newest ones are, which servers list last. */
const MOST = 100_000;
/** How many new messages tell whether a server gave all of them other ids. */
const SAMPLES = 5;
/** So many older messages in a row end the search for those since a date. */
const IN_A_ROW = 100;
/** What arrived within the second of the registration counts as before it, as with IMAP. */
const SECOND = 1000;
/** How far a server's clock may be behind this one. */
const CLOCK_SKEW = 10 * 60_000;
/** The `newest` of a cursor under which nothing was handed over yet. */
const NEVER = new Date(0).toISOString();

export type Comparing = { mailbox: Pop3Mailbox; maildrop: Maildrop; emit?: Emit | undefined };

/**
 * What lies in the maildrop beyond the cursor, as arrivals in ascending numbers; without a cursor what `since` asks for. When
 * the server knows none of the ids of last time, only what it received since a day before then is handed over: it may have
 * given new ids to old messages, and the ledger recognises those of that day.
 */
export async function compared(by: Comparing, stored: Cursor | undefined): Promise<Arrival[]> {
  const seen = Date.now();
  const cursor = stored?.newest === NEVER ? undefined : stored;
  const before = stored?.epoch === EPOCH ? stored : undefined;
  const look = await looked(by, cursor, before);
  const wanted = await receivedAfter(by.maildrop, look, seen);
  if (before && cursor && wanted.length < look.fresh.length) {
    by.emit?.({ kind: "mailbox.reset", mailbox: by.mailbox.id, folder: FOLDER, epoch: EPOCH });
  }
  const newest = new Date(seen).toISOString();
  const at = (uid: number): Cursor => ({ folder: FOLDER, epoch: EPOCH, uid, state: look.state, newest });
  const arrivals: Arrival[] = [];
  if (look.unkept && wanted.length > 0) {
    arrivals.push({ messages: [], cursor: { ...at(before?.uid ?? 0), newest: cursor?.newest ?? NEVER } });
  }
  for (const messages of batches(wanted.map(refOf))) {
    arrivals.push({ messages, cursor: at(messages.at(-1)?.uid ?? look.top) });
  }
  const last = arrivals.at(-1)?.cursor ?? before;
  if (last?.uid !== look.top || last.newest === NEVER || (arrivals.length === 0 && last.state !== look.state)) {
    arrivals.push({ messages: [], cursor: at(look.top) });
  }
  return arrivals;
}

/** Messages that the cursor knows, received at or after a date; what it does not know yet is for the next look. */
export async function receivedSince(
  maildrop: Maildrop,
  cursor: Cursor | undefined,
  date: Date,
): Promise<MessageRef[][]> {
  const known = readKnown(cursor?.state ?? null);
  const { all } = await maildrop.listing();
  const numbered = all.flatMap((one) => {
    const uid = known.get(hashOf(one.key));
    return uid === undefined || uid > (cursor?.uid ?? 0) ? [] : [{ ...one, uid }];
  });
  const now = Date.now();
  const dated = await datesOf(maildrop, numbered, now, now);
  const wanted = dated.filter(({ at }) => at >= date.getTime()).toSorted((a, b) => a.uid - b.uid);
  return [...batches(wanted.map(refOf))];
}

async function looked(by: Comparing, cursor: Cursor | undefined, before: Cursor | undefined): Promise<Look> {
  const known = readKnown(before?.state ?? null);
  const listing = (await by.maildrop.listing()).all;
  const passed = before?.uid ?? 0;
  const given = numbering(known, reachable(listing, known), passed);
  const fresh = given.numbered.filter(({ uid }) => uid > passed).toSorted((a, b) => a.uid - b.uid);
  const recognised = before !== undefined && given.numbered.length > fresh.length;
  const from = recognised ? null : await startOf(by, cursor, fresh);
  // At the first look since now everything would be new on a server that gives no headers.
  const unknown = cursor === undefined && by.mailbox.receive.since === "now" ? 0 : null;
  return { fresh, state: writtenKnown(given.known), unkept: given.fresh, top: given.top, from, unknown };
}

/** Of more than are looked after the newest; what lies before the first one known was beyond reach last time. */
function reachable(listing: Listed[], known: Known): Listed[] {
  if (listing.length <= MOST) return listing;
  const newest = listing.slice(-MOST);
  const first = newest.findIndex(({ key }) => known.has(hashOf(key)));
  return newest.slice(Math.max(0, first));
}

/** From when on messages count where no name tells; null when all that is new does. */
async function startOf({ mailbox, maildrop }: Comparing, cursor: Cursor | undefined, fresh: Numbered[]) {
  const { since } = mailbox.receive;
  const registered = Math.floor(Date.parse(mailbox.createdAt) / SECOND) * SECOND;
  if (cursor === undefined) return since === "now" ? registered + SECOND : Date.parse(since);
  const start = since === "now" ? registered - CLOCK_SKEW : Date.parse(since);
  const from = Math.max(Date.parse(cursor.newest) - DAY, start || 0);
  const step = Math.max(1, Math.ceil(fresh.length / SAMPLES));
  const samples = await datesOf(
    maildrop,
    fresh.filter((_, index) => index % step === 0),
    Date.now(),
    Date.now(),
  );
  return samples.some(({ at }) => at < from) ? from : null;
}

/**
 * Those of the new messages that were received since the look's date. Without a date nothing has to be asked of the server: they
 * were seen now. Servers list by arrival: from the end backwards, until so many in a row are older, unless the beginning says that
 * this server has another order.
 */
async function receivedAfter(maildrop: Maildrop, look: Look, seen: number): Promise<Dated[]> {
  const { fresh, from, unknown } = look;
  if (from === null) return fresh.map((one) => ({ ...one, at: seen }));
  const wanted = async (list: Numbered[]) =>
    (await datesOf(maildrop, list, unknown ?? seen, seen)).filter(({ at }) => at >= from);
  const byNumber = fresh.toSorted((a, b) => a.number - b.number);
  const first = await wanted(byNumber.slice(0, IN_A_ROW));
  const found: Dated[] = [];
  for (let end = byNumber.length; end > IN_A_ROW; end -= IN_A_ROW) {
    const some = await wanted(byNumber.slice(Math.max(IN_A_ROW, end - IN_A_ROW), end));
    found.push(...some);
    if (some.length === 0 && first.length === 0) break;
  }
  return [...first, ...found].toSorted((a, b) => a.uid - b.uid);
}

/** `unknown` is when a message counts as received whose header the server does not give. */
async function datesOf({ session }: Maildrop, list: Numbered[], unknown: number, seen: number): Promise<Dated[]> {
  const dated: Dated[] = [];
  for await (const said of session.heads(list.map(({ number }) => number))) {
    const one = list[dated.length];
    if (one) dated.push({ ...one, at: "block" in said ? receivedAt(said.block, seen) : unknown });
  }
  return dated;
}

function refOf({ uid, size, key, at }: Dated): MessageRef {
  return { folder: FOLDER, epoch: EPOCH, uid, size, receivedAt: new Date(at).toISOString(), key };
}
