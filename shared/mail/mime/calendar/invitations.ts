/** Invitations and other calendar entries in a message (RFC 5546, RFC 6047). */
import type { Calendar, CalendarAttendee, NamedAddress } from "../../../contract/received.ts";
import type { LimitedReasons } from "../limits.ts";
import { type Component, parseCalendar, type Property, propertyOf, unescapeText } from "./ical.ts";
import { parseDuration, toIso } from "./times.ts";
import { readZones, type Zones } from "./zones.ts";

/** The text of a calendar, and the method in its content type. */
export type CalendarFile = { content: string; method: string | null };

/** Limits: the entries, and the characters of their content. Each entry carries its whole calendar. */
const MAX_ENTRIES = 100;
const MAX_CHARACTERS = 4 * 1024 * 1024;
const MAX_ATTENDEES = 1000;
const ENTRIES = new Set(["VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY"]);

/**
 * All entries of all calendars, in order. A repeated entry, for example in an attachment beside an invitation, is left
 * out. An unreadable calendar gives only its content.
 */
export function readCalendars(files: CalendarFile[], limited: LimitedReasons): Calendar[] {
  const found = new Map<string, Calendar>();
  const seen = new Set<string>();
  let characters = 0;
  for (const [index, file] of files.entries()) {
    if (seen.has(file.content)) continue;
    seen.add(file.content);
    for (const [place, entry] of readEntries(file).entries()) {
      const { method, uid, sequence, recurrenceId } = entry;
      const key = JSON.stringify(uid === null ? [index, place] : [method, uid, sequence, recurrenceId]);
      if (found.has(key)) continue;
      characters += entry.content.length;
      if (found.size >= MAX_ENTRIES || (characters > MAX_CHARACTERS && found.size > 0)) {
        limited.add(`entries of calendars after the first ${found.size} left out`);
        return [...found.values()];
      }
      found.set(key, entry);
    }
  }
  return [...found.values()];
}

// One more than the limit, to know whether some are left out.
function readEntries({ content, method: named }: CalendarFile): Calendar[] {
  const calendar = parseCalendar(content);
  const stated = calendar && propertyOf(calendar, "METHOD")?.value.trim().toUpperCase();
  const method = named ?? (stated || null);
  const entries = calendar?.components.filter(({ name }) => ENTRIES.has(name)).slice(0, MAX_ENTRIES + 1) ?? [];
  if (calendar && entries.length > 0) {
    const zones = readZones(calendar);
    return entries.map((entry) => ({ ...readEntry(entry, zones), method, content }));
  }
  const none = {
    uid: null,
    sequence: null,
    start: null,
    end: null,
    organizer: null,
    attendees: [],
    recurrenceId: null,
  };
  return [{ ...none, method, content }];
}

function readEntry(entry: Component, zones: Zones): Omit<Calendar, "method" | "content"> {
  const sequence = Number.parseInt(propertyOf(entry, "SEQUENCE")?.value ?? "", 10);
  const organizer = propertyOf(entry, "ORGANIZER");
  const attendees = entry.properties.filter(({ name }) => name === "ATTENDEE").slice(0, MAX_ATTENDEES);
  return {
    uid: propertyOf(entry, "UID")?.value.trim() || null,
    sequence: Number.isSafeInteger(sequence) ? sequence : null,
    start: toIso(propertyOf(entry, "DTSTART"), zones),
    end: readEnd(entry, zones),
    organizer: organizer ? toParty(organizer) : null,
    attendees: attendees.map(toAttendee),
    recurrenceId: toIso(propertyOf(entry, "RECURRENCE-ID"), zones),
  };
}

function readEnd(entry: Component, zones: Zones): string | null {
  const end = propertyOf(entry, "DTEND") ?? propertyOf(entry, "DUE");
  if (end) return toIso(end, zones);
  const duration = parseDuration(propertyOf(entry, "DURATION")?.value);
  return duration === undefined ? null : toIso(propertyOf(entry, "DTSTART"), zones, duration);
}

// The address has `mailto:` before it. Some programs write the address to EMAIL and something else to the value.
function toParty({ value, params }: Property): NamedAddress {
  const address = /^\s*mailto:/i.test(value) ? value.replace(/^\s*mailto:/i, "") : (params.get("EMAIL") ?? value);
  return { name: decodeParameter(params.get("CN") ?? ""), address: address.trim() };
}

function toAttendee(property: Property): CalendarAttendee {
  const { params } = property;
  return {
    ...toParty(property),
    status: params.get("PARTSTAT")?.toUpperCase() ?? null,
    role: params.get("ROLE")?.toUpperCase() ?? null,
  };
}

// RFC 6868 encodes quotes and line breaks with a caret. Other programs use the escapes of text values.
function decodeParameter(value: string): string {
  const carets: Record<string, string> = { "^n": "\n", "^'": '"', "^^": "^" };
  return unescapeText(value.replace(/\^[n'^]/g, (mark) => carets[mark] ?? mark));
}
