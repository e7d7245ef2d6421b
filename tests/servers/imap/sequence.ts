/** Sequence sets: "1:5,7,9:*" by number or by UID (RFC 3501 section 9). */
import { Refusal } from "./parser.ts";
import { type Message, positionOf } from "./store.ts";

/** A message with the number it has in one session. */
export type Numbered = { number: number; message: Message };

/** The messages of `view` that the set names, each once, in order; numbers beyond the end are left out. */
export function select(view: readonly Message[], set: string, byUid: boolean): Numbered[] {
  const ranges = set.split(",").map((range) => positions(view, range, byUid));
  const found: Numbered[] = [];
  if (ranges.length === 1) {
    const [from, to] = ranges[0] ?? [0, 0];
    return take(view, from, to, found);
  }
  const seen = new Set<number>();
  for (const [from, to] of ranges) for (let index = from; index < to; index++) seen.add(index);
  for (const index of [...seen].toSorted((one, other) => one - other)) take(view, index, index + 1, found);
  return found;
}

/** Writes UIDs as a set: [1, 2, 3, 7] is "1:3,7". */
export function asSet(uids: number[]): string {
  const ranges: [number, number][] = [];
  for (const uid of uids) {
    const last = ranges.at(-1);
    if (last && last[1] + 1 === uid) last[1] = uid;
    else ranges.push([uid, uid]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}:${to}`)).join(",");
}

function positions(view: readonly Message[], range: string, byUid: boolean): [number, number] {
  const match = /^(\d+|\*)(?::(\d+|\*))?$/.exec(range);
  if (!match) throw new Refusal(`BAD Not a sequence set: ${range}`);
  const highest = byUid ? (view.at(-1)?.uid ?? 0) : view.length;
  const ends = [match[1] ?? "", match[2] ?? match[1] ?? ""].map((end) => (end === "*" ? highest : Number(end)));
  // "9:*" means the last message too when there are fewer than nine (RFC 3501 section 6.4.8).
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  if (byUid) return [positionOf(view, low), positionOf(view, high + 1)];
  return [Math.min(low - 1, view.length), Math.min(high, view.length)];
}

function take(view: readonly Message[], from: number, to: number, found: Numbered[]): Numbered[] {
  for (let index = Math.max(from, 0); index < to; index++) {
    const message = view[index];
    if (message) found.push({ number: index + 1, message });
  }
  return found;
}
