/**
 * How messages of protocols without numbers are handed over: their new numbers are stored first, by an arrival without
 * messages, then come batches, each with an exact cursor.
 */
import type { MessageRef } from "../contract/message.ts";
import { type AssignedUids, assignUids, hashKey } from "./assigned-uids.ts";
import { splitIntoBatches } from "./batches.ts";

/**
 * The number of a message that had one above the cursor and was not listed when the cursor passed it. It was perhaps
 * never handed over.
 */
const LOST = 0;

/** A message by the server's name for it. `receivedAt` in milliseconds since 1970; null if the server does not say it. */
type Named = { key: string; receivedAt: number | null } & Pick<MessageRef, "size">;

/**
 * How far a folder was handed over. `known` has the numbers of the last messages that were handed over (up to `uid`) and
 * of those that have a number but were not handed over yet (above it).
 */
export type Numbering = { uid: number; newest: string; known: AssignedUids };

/** `isLast`: with these messages everything is handed over. */
type Step<T> = { items: (T & { uid: number; perhapsKnown?: boolean })[]; at: Numbering; isLast: boolean };

/**
 * The steps from one position to the position after these messages, the oldest first. Returns that position and the
 * number of messages. `remembered` is how many messages that were handed over stay known.
 */
export function* planSteps<T extends Named>(
  at: Numbering,
  items: T[],
  remembered: number,
): Generator<Step<T>, { at: Numbering; count: number }, undefined> {
  const named = items.map((item) =>
    at.known.get(hashKey(item.key)) === LOST ? { ...item, perhapsKnown: true } : item,
  );
  const inOrder = named.toSorted((a, b) => (a.receivedAt ?? 0) - (b.receivedAt ?? 0));
  const assigned = assignUids(at.known, inOrder, at.uid);
  const known = new Map([...recentNumbers(at.known, at.uid, remembered), ...assigned.uids]);
  const fresh = assigned.messages.filter((item) => item.uid > at.uid).toSorted((a, b) => a.uid - b.uid);
  if (assigned.hasNewUids) yield { items: [], at: { ...at, known }, isLast: false };
  const listed = new Set(items.map(({ key }) => hashKey(key)));
  const passed = [...known].map(([hash, uid]) => [hash, uid > at.uid && !listed.has(hash) ? LOST : uid] as const);
  const after = recentNumbers(new Map(passed), assigned.highestUid, remembered);
  let { newest } = at;
  let left = fresh.length;
  for (const batch of splitIntoBatches(fresh)) {
    for (const { receivedAt } of batch) newest = newer(newest, receivedAt);
    left -= batch.length;
    const isLast = left === 0;
    const uid = isLast ? assigned.highestUid : (batch.at(-1)?.uid ?? at.uid);
    yield { items: batch, at: { uid, newest, known: isLast ? after : known }, isLast };
  }
  return { at: { uid: assigned.highestUid, newest, known: after }, count: fresh.length };
}

/** The numbers of the last messages that were handed over. */
export function recentNumbers(known: AssignedUids, uid: number, remembered: number): AssignedUids {
  const before = [...known].filter(([, number]) => number <= uid);
  return new Map(before.toSorted(([, a], [, b]) => a - b).slice(-remembered));
}

function newer(newest: string, receivedAt: number | null): string {
  const at = receivedAt === null ? "" : new Date(receivedAt).toISOString();
  return at > newest ? at : newest;
}
