/** From which date on a CRM wants mail loaded. The grammar of its filters is not public, so any date in them counts. */
import { isRecord } from "../../http/field-errors.ts";

const DAY_MS = 24 * 3_600_000;
/** The CRM's periods by the beginning of their ids: a day, three days, a week, everything. */
const PERIODS: readonly (readonly [RegExp, number])[] = [
  [/560452ae-/i, 1],
  [/341eccde-/i, 3],
  [/2d480351-/i, 7],
  [/9f8663db-/i, 36_500],
];
const ISO = /\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:Z|[+-]\d{2}:?\d{2})?)?/g;
/** `/Date(1700000000000+0300)/`, as .NET writes dates in JSON. */
const MICROSOFT = /Date\((-?\d{10,14})(?:[+-]\d{4})?\)/g;
/** .NET ticks of the years 1990 to 2100. */
const TICKS = /\b6[2-6]\d{16}\b/g;
const TICKS_TO_1970 = 62_135_596_800_000n;
/** No IMAP mail is older. An earlier date is no start date. */
const EARLIEST = Date.UTC(1990, 0, 1);

/**
 * The earliest plausible date in a command; undefined when it has none. It does not search members named Credentials.
 */
export function sinceOf(command: unknown, now: Date): Date | undefined {
  const found = textsOf(command).flatMap((text) => [...datesIn(text), ...periodsIn(text, now)]);
  const plausible = found.filter((time) => time >= EARLIEST && time <= now.getTime() + DAY_MS);
  return plausible.length === 0 ? undefined : new Date(Math.min(...plausible));
}

function textsOf(value: unknown): string[] {
  if (typeof value === "string") return [value];
  if (typeof value === "number") return [String(value)];
  if (Array.isArray(value)) return value.flatMap(textsOf);
  if (!isRecord(value)) return [];
  return Object.entries(value).flatMap(([name, inner]) => (/credentials/i.test(name) ? [] : textsOf(inner)));
}

function datesIn(text: string): number[] {
  const iso = [...text.matchAll(ISO)].map(([match]) => Date.parse(toUtc(match)));
  const microsoft = [...text.matchAll(MICROSOFT)].map(([, ms]) => Number(ms));
  const ticks = [...text.matchAll(TICKS)].map(([match]) => Number(BigInt(match) / 10_000n - TICKS_TO_1970));
  return [...iso, ...microsoft, ...ticks].filter((time) => !Number.isNaN(time));
}

/** A date and time without a zone is read as UTC less 14 hours: too much mail does no harm, too little loses mail. */
function toUtc(match: string): string {
  const text = match.replace(" ", "T");
  if (!text.includes("T")) return `${text}T00:00:00+14:00`;
  return /(Z|[+-]\d{2}:?\d{2})$/.test(text) ? text : `${text}+14:00`;
}

function periodsIn(text: string, now: Date): number[] {
  return PERIODS.filter(([id]) => id.test(text)).map(([, days]) => Math.max(EARLIEST, now.getTime() - days * DAY_MS));
}
