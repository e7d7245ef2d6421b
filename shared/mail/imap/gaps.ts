/**
 * Gaps: uids below others that came, of which nothing has come yet. Most of them were deleted before anybody looked.
 * But some servers show a message a moment after the next one, or announce a uid before its message can be listed. So
 * the service asks for them again for a while, and until then the cursor stays below them.
 */
import { clock } from "../../time.ts";
import type { UidRange } from "./rows.ts";

export type Gap = UidRange & { until: number };

/** How long the service waits for a uid. */
const WAIT_MS = 10 * 60_000;
/** It waits only for the last uids, because a gap farther below is old. */
const SPAN = 1000;

const FORMAT = "imap-1";

/**
 * What to keep with a cursor that lies below gaps, so that the next connection hands over nothing again: the highest uid that was looked
 * at, and each gap with its time. Null where there is no gap: then the cursor says it all.
 */
export function serializeGaps(seen: number, gaps: Gap[]): string | null {
  if (gaps.length === 0) return null;
  const toClock = clock.now() - performance.now();
  return [FORMAT, seen, ...gaps.map(({ from, to, until }) => `${from}-${to}@${Math.round(until + toClock)}`)].join(" ");
}

/** The state that `serializeGaps` made; undefined for any other. */
export function parseGaps(state: string | null): { seen: number; gaps: Gap[] } | undefined {
  const [format, seen, ...rest] = (state ?? "").split(" ");
  if (format !== FORMAT || !/^\d+$/.test(seen ?? "")) return undefined;
  const fromClock = performance.now() - clock.now();
  const gaps = rest.flatMap((text): Gap[] => {
    const [, from, to, at] = /^(\d+)-(\d+)@(\d+)$/.exec(text) ?? [];
    return at === undefined ? [] : [{ from: Number(from), to: Number(to), until: Number(at) + fromClock }];
  });
  return { seen: Number(seen), gaps };
}

/** The uids from `from` to `to` that are not in the ascending list. */
export function missingRanges(from: number, to: number, present: number[]): UidRange[] {
  const missing: UidRange[] = [];
  let next = from;
  for (const uid of present) {
    if (uid > to) break;
    if (uid > next) missing.push({ from: next, to: uid - 1 });
    next = Math.max(next, uid + 1);
  }
  if (next <= to) missing.push({ from: next, to });
  return missing;
}

/** The gaps together with these ranges among the last uids up to `top`; `now` as performance.now() counts. */
export function addGaps(gaps: Gap[], ranges: UidRange[], top: number, now: number): Gap[] {
  const lowest = top - SPAN + 1;
  const fresh = ranges.flatMap(({ from, to }) =>
    to < lowest ? [] : [{ from: Math.max(from, lowest), to, until: now + WAIT_MS }],
  );
  return [...gaps, ...fresh].filter(({ to }) => to >= lowest).toSorted((a, b) => a.from - b.from);
}

/**
 * The gaps that remain after these uids (ascending) came. Gaps whose time ended before `now` were asked for once more
 * and are given up.
 */
export function closeGaps(gaps: Gap[], came: number[], now: number): Gap[] {
  return gaps.flatMap(({ from, to, until }) =>
    until <= now
      ? []
      : missingRanges(
          from,
          to,
          came.filter((uid) => uid >= from),
        ).map((range) => ({ ...range, until })),
  );
}

/** The uid up to which nothing is missing. */
export function positionBelow(gaps: Gap[], seen: number): number {
  return Math.min(seen, (gaps[0]?.from ?? seen + 1) - 1);
}
