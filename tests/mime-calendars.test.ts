/** Invitations: every entry of every calendar in a message, with its times in UTC. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";

type Leaf = { type: string; lines: string[]; more?: string[] };

async function calendarsOf(...leaves: Leaf[]) {
  const parts = leaves.flatMap(({ type, lines, more = [] }) => ["--b", `Content-Type: ${type}`, ...more, "", ...lines]);
  const raw = ["From: a@example.com", 'Content-Type: multipart/mixed; boundary="b"', "", ...parts, "--b--"].join(
    "\r\n",
  );
  return parseMessage(Buffer.from(raw), { maxAttachmentBytes: 1_000_000 });
}

const calendar = (...lines: string[]) => ["BEGIN:VCALENDAR", "VERSION:2.0", ...lines, "END:VCALENDAR"];
const event = (...lines: string[]) => ["BEGIN:VEVENT", ...lines, "END:VEVENT"];
const invitation = (...lines: string[]): Leaf => ({
  type: "text/calendar; method=REQUEST; charset=utf-8",
  lines: calendar(...event(...lines)),
});

// As Outlook writes the zone of Berlin.
const ZONE = [
  "BEGIN:VTIMEZONE",
  "TZID:W. Europe Standard Time",
  "BEGIN:STANDARD",
  "DTSTART:16010101T030000",
  "TZOFFSETFROM:+0200",
  "TZOFFSETTO:+0100",
  "RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10",
  "END:STANDARD",
  "BEGIN:DAYLIGHT",
  "DTSTART:16010101T020000",
  "TZOFFSETFROM:+0100",
  "TZOFFSETTO:+0200",
  "RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3",
  "END:DAYLIGHT",
  "END:VTIMEZONE",
];

describe("An invitation", () => {
  test("says who asks whom, when, and which of a series", async () => {
    const { calendars, calendar: first } = await calendarsOf(
      invitation(
        "UID:one@exa",
        " mple.com",
        "SEQUENCE:3",
        "RECURRENCE-ID:20260105T090000Z",
        "DTSTART:20260105T100000Z",
        "DTEND:20260105T113000Z",
        'ORGANIZER;CN="Roe, Jane":mailto:jane@example.com',
        "ATTENDEE;CN=John;PARTSTAT=accepted;ROLE=REQ-PARTICIPANT:MAILTO:john@example.org",
        "ATTENDEE:mailto:ann@example.org",
      ),
    );
    const { content, ...entry } = calendars[0]!;
    assert.deepEqual(entry, {
      method: "REQUEST",
      uid: "one@example.com",
      sequence: 3,
      start: "2026-01-05T10:00:00.000Z",
      end: "2026-01-05T11:30:00.000Z",
      organizer: { name: "Roe, Jane", address: "jane@example.com" },
      attendees: [
        { name: "John", address: "john@example.org", status: "ACCEPTED", role: "REQ-PARTICIPANT" },
        { name: "", address: "ann@example.org", status: null, role: null },
      ],
      recurrenceId: "2026-01-05T09:00:00.000Z",
    });
    assert.match(content, /^BEGIN:VCALENDAR\n/);
    assert.deepEqual(first, calendars[0]);
  });

  const times: [string, string[], string | null, string | null][] = [
    [
      "in UTC",
      ["DTSTART:20260105T100000Z", "DURATION:PT1H30M"],
      "2026-01-05T10:00:00.000Z",
      "2026-01-05T11:30:00.000Z",
    ],
    [
      "in a zone that the calendar defines, in winter",
      ["DTSTART;TZID=W. Europe Standard Time:20260105T100000"],
      "2026-01-05T09:00:00.000Z",
      null,
    ],
    [
      "in that zone in summer",
      ['DTSTART;TZID="W. Europe Standard Time":20260705T100000'],
      "2026-07-05T08:00:00.000Z",
      null,
    ],
    [
      "in that zone on the day of the change",
      ["DTSTART;TZID=W. Europe Standard Time:20260329T030000"],
      "2026-03-29T01:00:00.000Z",
      null,
    ],
    [
      "in that zone on the day before the change",
      ["DTSTART;TZID=W. Europe Standard Time:20260328T100000"],
      "2026-03-28T09:00:00.000Z",
      null,
    ],
    ["in a zone by its name", ["DTSTART;TZID=America/New_York:20260705T100000"], "2026-07-05T14:00:00.000Z", null],
    [
      "in a zone behind a program's prefix",
      ["DTSTART;TZID=/example.org/20260101_1/Asia/Tokyo:20260705T100000"],
      "2026-07-05T01:00:00.000Z",
      null,
    ],
    ["of whole days", ["DTSTART;VALUE=DATE:20260105", "DTEND;VALUE=DATE:20260107"], "2026-01-05", "2026-01-07"],
    ["without a zone", ["DTSTART:20260105T100000"], "2026-01-05T10:00:00", null],
    ["in a zone that nobody knows", ["DTSTART;TZID=Some Place:20260105T100000"], "2026-01-05T10:00:00", null],
    ["that does not exist", ["DTSTART:20260231T100000Z", "DTEND:tomorrow"], null, null],
  ];
  for (const [name, lines, start, end] of times) {
    test(`has its time: ${name}`, async () => {
      const leaf: Leaf = { type: "text/calendar", lines: calendar(...ZONE, ...event("UID:1", ...lines)) };
      const { calendars } = await calendarsOf(leaf);
      assert.deepEqual([calendars[0]?.start, calendars[0]?.end], [start, end]);
    });
  }

  test("is found by its type, by the type that Google gives it, and by its name", async () => {
    const lines = calendar("METHOD:REQUEST", ...event("UID:1"));
    const named = ['Content-Disposition: attachment; filename="Invite.ICS"'];
    for (const leaf of [
      { type: "text/calendar", lines },
      { type: "application/ics", lines },
      { type: "application/octet-stream", lines, more: named },
    ]) {
      const { calendar: found } = await calendarsOf({ type: "text/plain", lines: ["Hello"] }, leaf);
      assert.deepEqual([found?.method, found?.uid], ["REQUEST", "1"], leaf.type);
    }
    const letter = await calendarsOf({
      type: "text/plain",
      lines,
      more: ['Content-Disposition: attachment; filename="notes.txt"'],
    });
    assert.deepEqual([letter.calendar, letter.calendars], [null, []]);
  });

  test("comes once, however often the message has it; all others come, too, invitations first", async () => {
    const file: Leaf = {
      type: "application/ics",
      lines: calendar("METHOD:PUBLISH", ...event("UID:2"), ...event("UID:3"), ...event("UID:2")),
    };
    const twice = { type: "application/ics", lines: calendar("METHOD:REQUEST", ...event("UID:1")) };
    const { calendars } = await calendarsOf(file, twice, invitation("UID:1"));
    assert.deepEqual(
      calendars.map(({ method, uid }) => `${method} ${uid}`),
      ["REQUEST 1", "PUBLISH 2", "PUBLISH 3"],
    );
  });

  test("that cannot be read gives its content alone", async () => {
    const { calendars } = await calendarsOf({ type: "text/calendar; method=reply", lines: ["Not a calendar"] });
    assert.deepEqual(
      [calendars[0]?.method, calendars[0]?.uid, calendars[0]?.content.trim()],
      ["REPLY", null, "Not a calendar"],
    );
  });

  test("with more than a hundred entries gives the first, and says so", async () => {
    const many = Array.from({ length: 150 }, (_, at) => event(`UID:${at}`)).flat();
    const { calendars, limited } = await calendarsOf({ type: "text/calendar", lines: calendar(...many) });
    assert.equal(calendars.length, 100);
    assert.match(limited?.join() ?? "", /entries of calendars after the first 100 left out/);
  });
});
