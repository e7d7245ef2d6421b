/**
 * What lies in a maildrop, each message under a name that it keeps from session to session: its unique id, or where the server
 * has none, or gives one to several messages, a fingerprint of its header.
 */
import { fingerprint } from "../fingerprint.ts";
import { headerOf } from "../mime/content.ts";
import { isoDate } from "../mime-values.ts";
import type { Session } from "./session.ts";

export type Listed = { number: number; size: number; key: string };
export type Listing = {
  /** In the order of the server, which is that of arrival as a rule. */
  all: Listed[];
  byKey: ReadonlyMap<string, Listed>;
};

/** Lists the maildrop. A message whose header cannot be had (nor an id) goes by its size and its place among those of that size. */
export async function listingOf(session: Session): Promise<Listing> {
  const sizes = await session.list();
  const ids = await session.uidl();
  const numbers = [...sizes.keys()].toSorted((a, b) => a - b);
  const first = new Set<string>();
  const unnamed: number[] = [];
  const keys = new Map<number, string>();
  for (const number of numbers) {
    const id = ids?.get(number);
    if (id === undefined || first.has(id)) unnamed.push(number);
    else keys.set(number, id);
    if (id !== undefined) first.add(id);
  }
  const prints = await headPrints(session, unnamed, sizes);
  const all: Listed[] = [];
  const byKey = new Map<string, Listed>();
  for (const number of numbers) {
    const own = keys.get(number) ?? `${ids?.get(number) ?? ""} ${prints.get(number) ?? ""}`;
    const entry = { number, size: sizes.get(number) ?? 0, key: unlike(own, byKey) };
    all.push(entry);
    byKey.set(entry.key, entry);
  }
  return { all, byKey };
}

/** The message a ref means. A message that shared its id with an earlier one has the plain id once that one is gone. */
export function found(listing: Listing, key: string): Listed | undefined {
  const own = listing.byKey.get(key);
  const [id = ""] = key.split(" ");
  return own ?? (id === "" || id === key ? undefined : listing.byKey.get(id));
}

async function headPrints(
  session: Session,
  numbers: readonly number[],
  sizes: ReadonlyMap<number, number>,
): Promise<Map<number, string>> {
  const prints = new Map<number, string>();
  let at = 0;
  for await (const said of session.heads(numbers)) {
    const number = numbers[at++] ?? 0;
    prints.set(number, "block" in said ? fingerprint(said.block) : `size:${sizes.get(number) ?? 0}`);
  }
  return prints;
}

function unlike(key: string, taken: ReadonlyMap<string, unknown>): string {
  if (!taken.has(key)) return key;
  for (let copy = 2; ; copy++) if (!taken.has(`${key} ${copy}`)) return `${key} ${copy}`;
}

/**
 * When the server received a message, by the last of its Received lines, else by its Date; never later than `seen`, which also
 * stands for a message that says nothing (milliseconds since 1970).
 */
export function receivedAt(head: Buffer, seen: number): number {
  const fields = headerOf(head);
  const trace = fields.find((field) => field.name === "received")?.value;
  const text =
    isoDate(trace?.slice(trace.lastIndexOf(";") + 1)) ?? isoDate(fields.find((field) => field.name === "date")?.value);
  const at = text === null ? Number.NaN : Date.parse(text);
  return Number.isNaN(at) || at > seen ? seen : at;
}
