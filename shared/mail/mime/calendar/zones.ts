/** Offsets of time zones, by the calendar's own rules (VTIMEZONE, RFC 5545 section 3.6.5), else by the zone's name. */
import { type Component, type Property, propertyOf } from "./ical.ts";

/** Limits: the zones of a calendar, the rules of a zone, and the dates of a rule. */
const MAX_ZONES = 50;
const MAX_RULES = 100;
const MAX_RDATES = 100;
const WEEKDAYS = ["SU", "MO", "TU", "WE", "TH", "FR", "SA"];
const DAY_MS = 86_400_000;

type Observance = {
  offset: number;
  first: number | undefined;
  rule: Property | undefined;
  dates: number[];
  isStandard: boolean;
};

/** The zones that a calendar defines, by TZID. */
export type Zones = ReadonlyMap<string, Observance[]>;

/** Reads the zones that a calendar defines. */
export function readZones({ components }: Component): Zones {
  const zones = new Map<string, Observance[]>();
  for (const definition of components.filter(({ name }) => name === "VTIMEZONE").slice(0, MAX_ZONES)) {
    const name = propertyOf(definition, "TZID")?.value.trim();
    if (name !== undefined && !zones.has(name))
      zones.set(
        name,
        definition.components.slice(0, MAX_RULES).flatMap((one) => toObservance(one) ?? []),
      );
  }
  return zones;
}

function toObservance(component: Component): Observance | undefined {
  const offset = parseOffset(propertyOf(component, "TZOFFSETTO")?.value);
  if (offset === undefined) return undefined;
  const dates = component.properties
    .filter(({ name }) => name === "RDATE")
    .slice(0, MAX_RDATES)
    .flatMap(({ value }) => value.split(",", MAX_RDATES))
    .slice(0, MAX_RDATES)
    .flatMap((value) => parseLocal(value) ?? []);
  const first = parseLocal(propertyOf(component, "DTSTART")?.value);
  return { offset, first, rule: propertyOf(component, "RRULE"), dates, isStandard: component.name === "STANDARD" };
}

/** The offset in ms: the local time (in ms, as if it were UTC) minus UTC. Undefined for an unknown zone. */
export function zoneOffset(zone: string, localMs: number, zones: Zones): number | undefined {
  const observances = zones.get(zone.trim());
  return (observances && offsetByRules(observances, localMs)) ?? offsetByName(zone, localMs);
}

/** The offset of the observance that started last before this time. */
function offsetByRules(observances: Observance[], localMs: number): number | undefined {
  let [latest, offset]: [number, number | undefined] = [Number.NEGATIVE_INFINITY, undefined];
  for (const observance of observances) {
    const onset = lastOnset(observance, localMs);
    if (onset > latest) [latest, offset] = [onset, observance.offset];
  }
  return offset ?? (observances.find(({ isStandard }) => isStandard) ?? observances[0])?.offset;
}

// Minus infinity if it has not started.
function lastOnset({ first, rule, dates }: Observance, localMs: number): number {
  if (first === undefined || first > localMs) return Number.NEGATIVE_INFINITY;
  const year = new Date(localMs).getUTCFullYear();
  const yearly = rule ? [year, year - 1].map((one) => onsetInYear(rule, first, one)) : [];
  let last = first;
  for (const one of [...yearly, ...dates]) if (one !== undefined && one <= localMs && one > last) last = one;
  return last;
}

/**
 * The date of a yearly rule in this year: the nth weekday of a month (BYDAY=-1SU), or the weekday among some days
 * (BYMONTHDAY=8,9,10).
 */
function onsetInYear(rule: Property, first: number, year: number): number | undefined {
  const parts = new Map(
    rule.value
      .toUpperCase()
      .split(";", 20)
      .map((one): [string, string] => [one.split("=")[0] ?? "", one.split("=")[1] ?? ""]),
  );
  const until = parseLocal(parts.get("UNTIL"));
  const start = new Date(first);
  const month = Number(parts.get("BYMONTH") ?? start.getUTCMonth() + 1) - 1;
  const [, nth, name = ""] = /^([+-]?\d)?([A-Z]{2})$/.exec(parts.get("BYDAY") ?? "") ?? [];
  const days = daysOfMonth(year, month).filter(
    (day) => name === "" || new Date(Date.UTC(year, month, day)).getUTCDay() === WEEKDAYS.indexOf(name),
  );
  const among = parts.get("BYMONTHDAY")?.split(",", 31).map(Number);
  const candidates = among ? days.filter((day) => among.includes(day)) : name === "" ? [start.getUTCDate()] : days;
  const count = Number(nth ?? 1);
  const day = candidates.at(count < 0 ? count : count - 1);
  if (day === undefined) return undefined;
  // Outlook's rules start in 1601, so `first` is negative.
  const onset = Date.UTC(year, month, day) + (((first % DAY_MS) + DAY_MS) % DAY_MS);
  return until !== undefined && onset > until + DAY_MS ? undefined : onset;
}

function daysOfMonth(year: number, month: number): number[] {
  const count = new Date(Date.UTC(year, month + 1, 0)).getUTCDate();
  return Array.from({ length: Number.isNaN(count) ? 0 : count }, (_, index) => index + 1);
}

function parseOffset(value: string | undefined): number | undefined {
  const [, sign, hours, minutes, seconds] = /^([+-])(\d{2})(\d{2})(\d{2})?$/.exec((value ?? "").trim()) ?? [];
  if (sign === undefined) return undefined;
  const ms = Number(hours) * 3_600_000 + Number(minutes) * 60_000 + Number(seconds ?? 0) * 1000;
  return sign === "-" ? -ms : ms;
}

function parseLocal(value: string | undefined): number | undefined {
  const [, year, month, day, hour, minute, second] =
    /^(\d{4})(\d{2})(\d{2})(?:T(\d{2})(\d{2})(\d{2}))?/.exec((value ?? "").trim()) ?? [];
  if (year === undefined) return undefined;
  return Date.UTC(
    Number(year),
    Number(month) - 1,
    Number(day),
    Number(hour ?? 0),
    Number(minute ?? 0),
    Number(second ?? 0),
  );
}

// A name such as `Europe/Berlin`, also after a program's prefix (`/citadel.org/20260101_1/Europe/Berlin`).
function offsetByName(zone: string, localMs: number): number | undefined {
  const name = /[A-Za-z_]{2,30}\/[A-Za-z_+\-0-9]{2,30}(?:\/[A-Za-z_]{2,30})?$|^(?:UTC|GMT)$/.exec(
    zone.trim().slice(-100),
  )?.[0];
  if (name === undefined) return undefined;
  try {
    const clock = new Intl.DateTimeFormat("en-US", { timeZone: name, timeZoneName: "longOffset" });
    // The offset is looked up twice: at the local time, then at the time that results.
    const guess = offsetAt(clock, localMs);
    return guess === undefined ? undefined : offsetAt(clock, localMs - guess);
  } catch {
    // This runtime does not know the name.
    return undefined;
  }
}

function offsetAt(clock: Intl.DateTimeFormat, ms: number): number | undefined {
  const name = clock.formatToParts(ms).find(({ type }) => type === "timeZoneName")?.value ?? "";
  if (name === "GMT") return 0;
  return parseOffset(name.replace("GMT", "").replaceAll(":", ""));
}
