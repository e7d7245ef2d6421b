/**
 * The messages of a maildrop. Each has a name that stays the same over sessions: its unique id, or a fingerprint of its
 * header if the server has no id or gives one to several messages.
 */
import { fingerprint } from "../fingerprint.ts";
import { readNestedHeader } from "../mime/header.ts";
import { toIsoDate } from "../mime/values/dates.ts";
import type { Session } from "./session.ts";

/** `sharesId`: another message with another header has the same id now, so one of the two names may be wrong. */
export type ListedMessage = { number: number; size: number; key: string; sharesId?: true };
export type Listing = {
  /** In the order of the server, which is usually that of arrival. */
  messages: ListedMessage[];
  byKey: ReadonlyMap<string, ListedMessage>;
};

/** A longer header is compared up to here. */
const MAX_HEAD_BYTES = 1_000_000;

/** What a listing left out, or may have named wrong, is asked for one by one, so many at most of each kind. */
const MAX_ASKED = 100;

/**
 * Lists the maildrop. A message is in it if one of the server's two lists has it, or if the server knows it when asked
 * for it alone. A message with neither header nor id goes by its size and its position among messages of that size.
 */
export async function listMaildrop(session: Session): Promise<Listing> {
  const { numbers, sizes, ids } = await readLists(session);
  const groups = Map.groupBy(numbers, (number) => ids?.get(number));
  const nameless = [...groups].flatMap(([id, group]) => (id === undefined || group.length > 1 ? group : []));
  const fingerprints = await fingerprintHeaders(session, nameless, sizes);
  const printsOf = (group: number[]) => new Set(group.map((number) => fingerprints.get(number)));
  const sharedIds = new Set([...groups].flatMap(([id, group]) => (printsOf(group).size > 1 ? [id] : [])));
  const messages: ListedMessage[] = [];
  const byKey = new Map<string, ListedMessage>();
  const copies = new Map<string, number>();
  for (const number of numbers) {
    const id = ids?.get(number);
    const isFirst = id !== undefined && groups.get(id)?.[0] === number;
    const key = isFirst ? id : `${id ?? ""} ${fingerprints.get(number) ?? ""}`;
    const place = { number, size: sizes.get(number) ?? 0, key: toUniqueKey(key, byKey, copies) };
    const entry: ListedMessage = id !== undefined && sharedIds.has(id) ? { ...place, sharesId: true } : place;
    messages.push(entry);
    byKey.set(entry.key, entry);
  }
  return { messages, byKey };
}

/** `ids` is undefined if the server has none. */
type Lists = { numbers: number[]; sizes: Map<number, number>; ids: Map<number, string> | undefined };

/** The two lists. What they leave out, and ids that several messages have, is asked for once more alone. */
async function readLists(session: Session): Promise<Lists> {
  const count = (await session.count()) ?? 0;
  const sizes = await session.list();
  const ids = await session.uidl();
  const told = new Set([...sizes.keys(), ...(ids?.keys() ?? [])]);
  const last = [...told].reduce((a, b) => Math.max(a, b), count);
  await askFor(findLeftOut(told, last), sizes, session.sizeOf);
  const numbers = [...new Set([...told, ...sizes.keys()])].toSorted((a, b) => a - b);
  const lacking = (list: Map<number, unknown>) => numbers.filter((number) => !list.has(number));
  await askFor(lacking(sizes), sizes, session.sizeOf);
  if (ids) {
    const uidlOf = async (number: number) => (await session.uidlsOf([number]))[0];
    await askFor(lacking(ids), ids, uidlOf);
    const groups = Map.groupBy(numbers, (number) => ids.get(number));
    const shared = [...groups].flatMap(([id, group]) => (id !== undefined && group.length > 1 ? group : []));
    await askFor(shared, ids, uidlOf);
  }
  return { numbers, sizes, ids };
}

/** The numbers up to the last one that no list has. */
function findLeftOut(told: ReadonlySet<number>, last: number): number[] {
  const leftOut: number[] = [];
  for (let number = 1; number <= last && leftOut.length < MAX_ASKED; number++)
    if (!told.has(number)) leftOut.push(number);
  return leftOut;
}

/** Adds what the server says of each of these messages when it is asked for it alone. */
async function askFor<T>(
  numbers: readonly number[],
  list: Map<number, T>,
  ask: (number: number) => Promise<T | undefined>,
): Promise<void> {
  for (const number of numbers.slice(0, MAX_ASKED)) {
    const answer = await ask(number);
    if (answer !== undefined) list.set(number, answer);
  }
}

/**
 * The message that a key means. A message that shared its id with an earlier one has the plain id once that one is
 * gone; that it is this message, and not the one whose id it shared, its header shows.
 */
export async function findByKey(session: Session, listing: Listing, key: string): Promise<ListedMessage | undefined> {
  const exact = listing.byKey.get(key);
  const [id = "", print] = key.split(" ");
  if (exact || id === "" || print === undefined) return exact;
  const plain = listing.byKey.get(id);
  if (!plain) return undefined;
  const sizes = new Map([[plain.number, plain.size]]);
  const prints = await fingerprintHeaders(session, [plain.number], sizes);
  return prints.get(plain.number) === print ? plain : undefined;
}

/** A fingerprint of the header, of a whole message or of what TOP gives. */
export function fingerprintHead(block: Buffer): string {
  const end = /\r?\n\r?\n/.exec(block.toString("latin1", 0, MAX_HEAD_BYTES));
  return fingerprint(end ? block.subarray(0, end.index + end[0].length) : block.subarray(0, MAX_HEAD_BYTES));
}

async function fingerprintHeaders(
  session: Session,
  numbers: readonly number[],
  sizes: ReadonlyMap<number, number>,
): Promise<Map<number, string>> {
  const fingerprints = new Map<number, string>();
  let at = 0;
  for await (const result of session.fetchHeaders(numbers)) {
    const number = numbers[at++] ?? 0;
    fingerprints.set(number, "block" in result ? fingerprint(result.block) : `size:${sizes.get(number) ?? 0}`);
  }
  return fingerprints;
}

/** `copies` counts the messages of each key, so that the next free number is not looked for from the beginning. */
function toUniqueKey(key: string, usedKeys: ReadonlyMap<string, unknown>, copies: Map<string, number>): string {
  if (!usedKeys.has(key)) return key;
  let copy = (copies.get(key) ?? 1) + 1;
  while (usedKeys.has(`${key} ${copy}`)) copy++;
  copies.set(key, copy);
  return `${key} ${copy}`;
}

/**
 * When the server received a message: by its first Received line, else by its Date, but never later than `seenAt`. For
 * a message without either it is `seenAt` (milliseconds since 1970).
 */
export function parseReceivedAt(head: Buffer, seenAt: number): number {
  const fields = readNestedHeader(head);
  const trace = fields.find((field) => field.name === "received")?.value;
  const text =
    toIsoDate(trace?.slice(trace.lastIndexOf(";") + 1)) ??
    toIsoDate(fields.find((field) => field.name === "date")?.value);
  const at = text === null ? Number.NaN : Date.parse(text);
  return Number.isNaN(at) || at > seenAt ? seenAt : at;
}
