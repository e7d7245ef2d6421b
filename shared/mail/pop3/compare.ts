/** Compares a maildrop with its cursor. New messages get ascending numbers and are handed over in batches. */
import type { Arrival, Cursor, MessageRef } from "../../contract/message.ts";
import type { Emit } from "../../telemetry/events.ts";
import { clock } from "../../time.ts";
import { splitIntoBatches } from "../batches.ts";
import { hashKey, type AssignedUids, assignUids, parseAssignedUids, serializeAssignedUids } from "../assigned-uids.ts";
import type { Pop3Mailbox } from "./client.ts";
import type { ListedMessage } from "./listing.ts";
import type { Maildrop } from "./maildrops.ts";
import {
  countLatelyMissing,
  MAX_MISSING,
  type MissingNames,
  splitMissing,
  withMissing,
  withoutUnlisted,
} from "./missing.ts";
import { type DatedMessage, fetchDates, filterReceived, type MessageWithUid } from "./received.ts";

/** POP3 has one folder. */
export const FOLDER = "INBOX";
/**
 * The service assigns the numbers, so the server has no epoch. A new epoch starts if the server changed the ids of
 * messages. Then equal content under another number is the same message, not a twin.
 */
const FIRST_EPOCH = "pop3";

export function isPop3Epoch(epoch: string): boolean {
  return epoch === FIRST_EPOCH || epoch.startsWith(`${FIRST_EPOCH}-`);
}

/**
 * The result of a comparison. `isReread`: the server changed the ids of messages. `hasNewUids`: some numbers are new.
 * Messages received before `since` are left out; null means none are. `undatedReceivedAt` is the date of messages
 * without a date; null means now, because delivering too much is better than missing mail.
 */
type Comparison = {
  epoch: string;
  isReread: boolean;
  cursorUid: number;
  /** The numbers before this comparison, and all that are known after it. */
  known: AssignedUids;
  uids: AssignedUids;
  missing: MissingNames;
  newMessages: MessageWithUid[];
  hasNewUids: boolean;
  highestUid: number;
  since: number | null;
  undatedReceivedAt: number | null;
};

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
/** With more messages than this only the newest count, which servers list last. */
const MAX_MESSAGES = 100_000;
/** How many new messages are sampled to find out whether the server changed ids. */
const SAMPLES = 100;
/** So many missing ids at once are no few messages that somebody deleted. */
const MANY = 50;
/** A message that arrived within the second of the registration counts as older, as with IMAP. */
const SECOND = 1000;
/** How far a server's clock may be late. */
const CLOCK_SKEW_MS = 10 * 60_000;
/** The `newest` of a cursor before anything was handed over. */
const NEVER = new Date(0).toISOString();

export type CompareDeps = { mailbox: Pop3Mailbox; maildrop: Maildrop; emit?: Emit | undefined };

/**
 * The messages of the maildrop after the cursor, as arrivals with ascending numbers. Without a cursor it returns what
 * `since` asks for. If known ids are missing and messages with unknown ids are older than the last comparison, the
 * server changed the ids. Then only messages received since a day before the last comparison are handed over, in a new
 * epoch, so that the ledger recognises those of that day.
 */
export async function compareWithCursor(deps: CompareDeps, stored: Cursor | undefined): Promise<Arrival[]> {
  const seenAt = clock.now();
  const cursor = stored?.newest === NEVER ? undefined : stored;
  const previous = stored && isPop3Epoch(stored.epoch) ? stored : undefined;
  const comparison = await compareListing(deps, cursor, previous);
  const { wanted, uids, passedUid } = await selectWanted(deps, comparison, seenAt);
  const { epoch, isReread, since, highestUid } = comparison;
  if (previous && isReread) deps.emit?.({ kind: "mailbox.reset", mailbox: deps.mailbox.id, folder: FOLDER, epoch });
  const reread =
    isReread && since !== null ? { since: new Date(since).toISOString(), total: wanted.length } : undefined;
  const backlog = reread && ({ kind: "reread", ...reread } as const);
  const newest = new Date(seenAt).toISOString();
  const state = serializeAssignedUids(uids);
  const lastState = serializeAssignedUids(withoutUnlisted(uids, comparison.missing));
  const at = (uid: number): Cursor => {
    return { folder: FOLDER, epoch, uid, state: uid < highestUid ? state : lastState, newest };
  };
  const arrivals: Arrival[] = [];
  if (comparison.hasNewUids && wanted.length > 0) {
    // A person may have to be asked before the numbers are stored, because afterwards these messages are no longer unknown.
    const numbered = { ...at(passedUid), newest: cursor?.newest ?? NEVER };
    arrivals.push({ messages: [], cursor: numbered, ...(backlog && { backlog }) });
  }
  for (const messages of splitIntoBatches(wanted.map((one) => toMessageRef(epoch, one)))) {
    const reached = at(messages.at(-1)?.uid ?? highestUid);
    arrivals.push({ messages, cursor: reached, ...(backlog && { backlog }) });
  }
  const last = arrivals.at(-1)?.cursor ?? previous;
  if (
    last?.uid !== highestUid ||
    last.epoch !== epoch ||
    last.newest === NEVER ||
    (arrivals.length === 0 && last.state !== lastState)
  ) {
    arrivals.push({ messages: [], cursor: at(highestUid) });
  }
  return arrivals;
}

/**
 * Messages that the cursor knows, received at or after a date. The next comparison handles those that it does not know
 * yet.
 */
export async function listReceivedSince(
  maildrop: Maildrop,
  cursor: Cursor | undefined,
  date: Date,
): Promise<MessageRef[][]> {
  const uids = parseAssignedUids(cursor?.state ?? null);
  const epoch = cursor?.epoch ?? FIRST_EPOCH;
  const { messages: all } = await maildrop.listing();
  const numbered = all.flatMap((one) => {
    const uid = uids.get(hashKey(one.key));
    return !uid || uid > (cursor?.uid ?? 0) ? [] : [{ ...one, uid }];
  });
  const now = clock.now();
  const dated = await fetchDates(maildrop, numbered, now, now);
  const wanted = dated.filter(({ at }) => at >= date.getTime()).toSorted((a, b) => a.uid - b.uid);
  return [...splitIntoBatches(wanted.map((one) => toMessageRef(epoch, one)))];
}

async function compareListing(
  deps: CompareDeps,
  cursor: Cursor | undefined,
  previous: Cursor | undefined,
): Promise<Comparison> {
  const { uids, missing: earlier } = splitMissing(parseAssignedUids(previous?.state ?? null));
  const listing = (await deps.maildrop.listing()).messages;
  const listed = new Set(listing.map(({ key }) => hashKey(key)));
  const missing = listMissing({ uids, earlier, listed });
  const isLately = countLatelyMissing(missing, clock.now()) > 0;
  const cursorUid = previous?.uid ?? 0;
  const assignment = assignUids(uids, limitToNewest(listing, uids), cursorUid);
  const newMessages = assignment.messages
    .filter(({ uid }) => uid > cursorUid)
    .map((one): MessageWithUid => {
      const hash = hashKey(one.key);
      // A message that comes back under its name was perhaps never gone; one that has its number, but was not handed over,
      // got it when names may have been missing.
      const perhapsKnown = one.sharesId || isLately || earlier.has(hash) || (uids.has(hash) && earlier.size > 0);
      return perhapsKnown ? { ...one, perhapsKnown } : one;
    })
    .toSorted((a, b) => a.uid - b.uid);
  const isReread = cursor !== undefined && (await hasOtherIds(deps, { cursor, previous, uids, newMessages, missing }));
  const since = cursor === undefined || isReread ? getCutoff(deps.mailbox, cursor) : null;
  // At the first comparison with `since: now`, everything would be new on a server that gives no headers.
  const undatedReceivedAt = cursor === undefined && deps.mailbox.receive.since === "now" ? 0 : null;
  return {
    epoch: isReread ? `${FIRST_EPOCH}-${clock.now().toString(36)}` : (previous?.epoch ?? FIRST_EPOCH),
    isReread,
    cursorUid,
    known: uids,
    uids: withMissing(assignment.uids, missing),
    missing,
    newMessages,
    hasNewUids: assignment.hasNewUids,
    highestUid: assignment.highestUid,
    since,
    undatedReceivedAt,
  };
}

/** The names that are not listed: those that were missing before, then those that are missing since now. */
function listMissing(last: { uids: AssignedUids; earlier: MissingNames; listed: ReadonlySet<string> }): MissingNames {
  const { uids, earlier, listed } = last;
  const now = clock.now();
  const names = [...earlier, ...[...uids.keys()].map((hash) => [hash, now] as const)];
  return new Map(names.filter(([hash]) => !listed.has(hash)));
}

/** If there are too many messages, the newest ones. Messages before the first known one were out of reach last time. */
function limitToNewest(listing: ListedMessage[], uids: AssignedUids): ListedMessage[] {
  if (listing.length <= MAX_MESSAGES) return listing;
  const newest = listing.slice(-MAX_MESSAGES);
  const first = newest.findIndex(({ key }) => uids.has(hashKey(key)));
  return newest.slice(Math.max(0, first));
}

/**
 * The messages to hand over, with the numbers to store, and the number that the cursor passes at once. After a change of
 * ids, messages that are too old get lower numbers than the wanted ones. So the cursor passes them before anything is
 * handed over, and a crash brings none of them back.
 */
async function selectWanted(
  { maildrop }: CompareDeps,
  comparison: Comparison,
  seenAt: number,
): Promise<{ wanted: DatedMessage[]; uids: AssignedUids; passedUid: number }> {
  const { cursorUid, known, uids, newMessages } = comparison;
  const isFresh = ({ key }: ListedMessage) => !known.has(hashKey(key));
  if (!comparison.isReread)
    return { wanted: await filterReceived(maildrop, comparison, seenAt), uids, passedUid: cursorUid };
  const waiting = newMessages.filter((one) => !isFresh(one)).map((one) => ({ ...one, at: seenAt }));
  const fresh = newMessages.filter(isFresh);
  const recent = await filterReceived(maildrop, { ...comparison, newMessages: fresh }, seenAt);
  const recentKeys = new Set(recent.map(({ key }) => key));
  const old = fresh.filter(({ key }) => !recentKeys.has(key));
  const numbers = fresh.map(({ uid }) => uid);
  const renumbered = new Map(uids);
  for (const [index, { key }] of [...old, ...recent].entries()) renumbered.set(hashKey(key), numbers[index] ?? 0);
  const wanted = recent.map((one, index) => ({ ...one, uid: numbers[old.length + index] ?? one.uid }));
  const passedUid = waiting.length === 0 ? (numbers[old.length - 1] ?? cursorUid) : cursorUid;
  return { wanted: [...waiting, ...wanted], uids: renumbered, passedUid };
}

/**
 * Whether the server changed the ids of messages since the last comparison: known ids are missing, and messages with
 * unknown ids are older than that comparison, so they did not arrive since. A server that was moved may have dated all
 * messages anew. So the same holds when many ids are missing and about as many are unknown, unless the service itself
 * deletes messages.
 */
async function hasOtherIds(
  { maildrop, mailbox }: CompareDeps,
  last: {
    cursor: Cursor;
    previous: Cursor | undefined;
    uids: AssignedUids;
    newMessages: MessageWithUid[];
    missing: MissingNames;
  },
): Promise<boolean> {
  const { cursor, previous, uids, newMessages } = last;
  const fresh = newMessages.filter(({ key }) => !uids.has(hashKey(key)));
  if (fresh.length === 0) return false;
  const isLeft = (mailbox.receive.afterDelivery ?? "leave") === "leave";
  const missing = countMissing(last, isLeft ? fresh.length : 0);
  if (previous !== undefined && missing === 0) return false;
  if (isLeft && fresh.length >= MANY && missing >= Math.min(fresh.length / 2, MAX_MISSING)) return true;
  const now = clock.now();
  const step = Math.max(1, Math.ceil(fresh.length / SAMPLES));
  const samples = fresh.filter((_, index) => index % step === 0);
  const dated = await fetchDates(maildrop, samples, now, now);
  // The server's clock may differ, and ids that the service deleted are missing too: so only clearly older mail counts.
  return dated.some(({ at }) => at < Date.parse(cursor.newest) - CLOCK_SKEW_MS);
}

/**
 * How many ids are missing since the last comparison. Where no known id is left, and there are about as many `fresh`
 * ones, those that went missing lately count too: the server may have shown an empty maildrop in between.
 */
function countMissing({ uids, missing }: { uids: AssignedUids; missing: MissingNames }, fresh: number): number {
  const since = [...uids.keys()].filter((hash) => missing.has(hash)).length;
  const lately = countLatelyMissing(missing, clock.now());
  return since === uids.size && fresh > 0 && fresh >= lately / 2 ? lately : since;
}

/** The date from which on messages count if their ids do not decide. */
function getCutoff({ receive: { since }, createdAt }: Pop3Mailbox, cursor: Cursor | undefined): number {
  const registered = Math.floor(Date.parse(createdAt) / SECOND) * SECOND;
  if (cursor === undefined) return since === "now" ? registered + SECOND : Date.parse(since);
  const start = since === "now" ? registered - CLOCK_SKEW_MS : Date.parse(since);
  return Math.max(Date.parse(cursor.newest) - DAY, start || 0);
}

function toMessageRef(epoch: string, { uid, size, key, at, perhapsKnown }: DatedMessage): MessageRef {
  const receivedAt = new Date(at).toISOString();
  return { folder: FOLDER, epoch, uid, size, receivedAt, key, ...(perhapsKnown && { perhapsKnown }) };
}
