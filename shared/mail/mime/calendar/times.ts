/** Dates and times of iCalendar (RFC 5545 section 3.3) as ISO 8601. */
import type { Property } from "./ical.ts";
import { type Zones, zoneOffset } from "./zones.ts";

const DATE_TIME = /^(\d{4})(\d{2})(\d{2})(?:T(\d{2})(\d{2})(\d{2})?(Z)?)?$/;

/** A local time in ms, as if it were UTC. `isDate` is true for whole days. */
export type LocalTime = { ms: number; isDate: boolean; isUtc: boolean };

/** Parses a DATE or DATE-TIME. Undefined if it is none. */
export function parseTime(value: string): LocalTime | undefined {
  const [, year, month, day, hour, minute, second, utc] = DATE_TIME.exec(value.trim()) ?? [];
  if (year === undefined) return undefined;
  const ms = Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(day),
    Number(hour ?? 0),
    Number(minute ?? 0),
    Number(second ?? 0),
  );
  const date = new Date(ms);
  // JavaScript would make the 31st of February a date in March.
  const exists = date.getUTCMonth() === Number(month) - 1 && date.getUTCDate() === Number(day);
  return exists ? { ms, isDate: hour === undefined, isUtc: utc !== undefined } : undefined;
}

/**
 * A property as ISO 8601: in UTC if its zone is known, as a date for whole days, and without an offset
 * (2026-01-05T10:00:00) if it has no zone or an unknown one. `addMs` moves it. Null if it cannot be parsed.
 */
export function toIso(property: Property | undefined, zones: Zones, addMs = 0): string | null {
  const time = property && parseTime(property.value);
  if (!time) return null;
  const ms = time.ms + addMs;
  if (time.isDate) return addMs % DAY_MS === 0 ? isoDate(ms) : isoLocal(ms);
  if (time.isUtc) return isoUtc(ms);
  const zone = property.params.get("TZID");
  const offset = zone === undefined ? undefined : zoneOffset(zone, ms, zones);
  return offset === undefined ? isoLocal(ms) : isoUtc(ms - offset);
}

const DAY_MS = 86_400_000;
const isoDate = (ms: number): string | null => isoUtc(ms)?.slice(0, 10) ?? null;
const isoLocal = (ms: number): string | null => isoUtc(ms)?.slice(0, 19) ?? null;

function isoUtc(ms: number): string | null {
  const date = new Date(ms);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}

const DURATION = /^([+-])?P(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T(?:(\d{1,6})H)?(?:(\d{1,6})M)?(?:(\d{1,6})S)?)?$/;

/** A DURATION in ms. Undefined if it is none. */
export function parseDuration(value: string | undefined): number | undefined {
  const match = DURATION.exec((value ?? "").trim());
  if (!match) return undefined;
  const [weeks = 0, days = 0, hours = 0, minutes = 0, seconds = 0] = match.slice(2).map((one) => Number(one ?? 0));
  const ms = weeks * 7 * DAY_MS + days * DAY_MS + hours * 3_600_000 + minutes * 60_000 + seconds * 1000;
  return match[1] === "-" ? -ms : ms;
}
