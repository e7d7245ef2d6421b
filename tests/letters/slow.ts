/** Messages made to cost: each grows with its size, and any reader that looks at a piece of it again and again would be slow. */
import { compressedEntity, element, ID, attribute, properties, signedData, storedRtf, tnef } from "./wrapped.ts";

/** A message of about this many bytes. */
export type Grow = (size: number) => Buffer;

const repeated = (text: string, size: number) => text.repeat(Math.ceil(size / text.length));
const letter =
  (header: string, body: (size: number) => string): Grow =>
  (size) =>
    Buffer.from(`${header}\r\n\r\n${body(size)}`);
const encoded =
  (type: string, content: (size: number) => Buffer): Grow =>
  (size) => {
    const lines = content(Math.ceil((size * 3) / 4))
      .toString("base64")
      .replace(/.{76}/g, "$&\r\n");
    return Buffer.from(
      `From: a@example.com\r\nContent-Type: ${type}\r\nContent-Transfer-Encoding: base64\r\n\r\n${lines}`,
    );
  };
const filled = (header: string, text: string, before = ""): Grow =>
  letter(header, (size) => before + repeated(text, size));

const DAEMON = "Return-Path: <>\r\nFrom: MAILER-DAEMON@example.net\r\nSubject: Undelivered";
const STATUS = `${DAEMON}\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status`;
const FAILED = "It could not be delivered\r\n";
const CALENDAR = "From: a@example.com\r\nContent-Type: text/calendar";
const SMIME = "application/pkcs7-mime; name=smime.p7m";
const TEXT = "From: a@example.com";
const HTML = "From: a@example.com\r\nContent-Type: text/html";
const rtf = (text: string) => (size: number) =>
  tnef(attribute(1, ID.messageProperties, properties([0x1009, storedRtf(`{\\rtf1 ${repeated(text, size)}`)])));

export const slowLetters: Record<string, Grow> = {
  "blanks in From": (size) => Buffer.from(`From: ${" ".repeat(size)}\r\n\r\nfailed`),
  "a name in From": (size) => Buffer.from(`From: "${repeated("a ", size)}" <mailer-daemon\r\n\r\nfailed`),
  "recipients in X-Failed-Recipients": (size) =>
    Buffer.from(`X-Failed-Recipients: ${repeated("a@b,", size)}\r\n\r\nfailed`),
  "a bounce of dashes": filled(DAEMON, "-", FAILED),
  "a bounce of lines of dashes": filled(DAEMON, "--\r\n", FAILED),
  "a bounce of signs of addresses": filled(DAEMON, "@", FAILED),
  "a bounce of halves of addresses": filled(DAEMON, "a@", FAILED),
  "a bounce of quotes": filled(DAEMON, '"@x.example ', FAILED),
  "a bounce of addresses": filled(DAEMON, "<a@b.example>: failed x\r\n", FAILED),
  "a bounce of empty lines": filled(DAEMON, "\r\n", `${FAILED}a@b.example`),
  "a bounce of words": filled(DAEMON, "user mailbox account recipient address ", `${FAILED}a@b.example:\r\n`),
  "a bounce of headers": filled(DAEMON, "Received: x\r\n", FAILED),
  "a status of recipients": filled(STATUS, "Final-Recipient: rfc822; a@b.example\r\n"),
  "a status of one diagnostic": filled(
    STATUS,
    "5.\r\n",
    "Final-Recipient: rfc822; a@b.example\r\nDiagnostic-Code: smtp;\r\n",
  ),
  "a status of colons": filled(STATUS, "x-a:"),
  "a notice of brackets": filled(DAEMON, "[", '{"notificationType":'),
  "a receipt of empty lines": filled(
    "Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/disposition-notification",
    "\r\n",
  ),
  "a subject of automatic replies": (size) =>
    Buffer.from(`Auto-Submitted: auto-generated\r\nSubject: ${repeated("automatic ", size)}\r\n\r\nx`),
  "a reply of colons": filled(TEXT, "a:\r\n"),
  "a reply of announcements": filled(TEXT, "On 2026-01-05 a@b.example wrote:\r\n"),
  "a reply of one announcement": filled(TEXT, "wrote ", "On 2026-01-05 "),
  "a reply of labels": filled(TEXT, "From: x\r\n"),
  "a reply of telephones": filled(TEXT, "Sent from my iPhone\r\n"),
  "a reply of blanks": (size) => Buffer.from(`${TEXT}\r\n\r\nx${" ".repeat(size)}x:`),
  "a reply of PGP": filled(TEXT, "-----BEGIN PGP MESSAGE-----\r\n"),
  "a reply of headers of PGP": filled(TEXT, "A: b\r\n", "-----BEGIN PGP MESSAGE-----\r\n"),
  "HTML of brackets": filled(HTML, "<"),
  "HTML of links": filled(HTML, '<a href="'),
  "HTML of quotations": filled(HTML, "<blockquote><div>"),
  "HTML of styles": filled(HTML, "<style>"),
  "HTML of attributes": filled(HTML, "x ", "<a "),
  "HTML of ends": filled(HTML, "</div>"),
  "HTML of preformatted lines": filled(HTML, "\n", "<pre>"),
  "a calendar of folds": filled(CALENDAR, "a\r\n ", "BEGIN:VCALENDAR\r\n"),
  "a calendar of beginnings": filled(CALENDAR, "BEGIN:VEVENT\r\n", "BEGIN:VCALENDAR\r\n"),
  "a calendar of events": filled(CALENDAR, "BEGIN:VEVENT\r\nEND:VEVENT\r\n", "BEGIN:VCALENDAR\r\n"),
  "a calendar of attendees": filled(CALENDAR, "ATTENDEE;CN=a:mailto:b\r\n", "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\n"),
  "a calendar of quotes": filled(CALENDAR, ';A="', "BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART"),
  "S/MIME of nested strings": encoded(SMIME, (size) => signedData(Buffer.alloc(size, Buffer.from([0x24, 0x80])))),
  "S/MIME of pieces": encoded(SMIME, (size) =>
    signedData(element(0x24, Buffer.alloc(size - (size % 3), Buffer.from([4, 1, 65])))),
  ),
  "S/MIME of strings without an end": encoded(SMIME, (size) => {
    const open = Buffer.alloc(14 * 4, Buffer.from([0x24, 2, 0x24, 0x80]));
    const pieces = Buffer.alloc(size - (size % 3), Buffer.from([4, 1, 65]));
    return signedData(Buffer.concat([Buffer.from([0x24, 0x80]), open, pieces]));
  }),
  "S/MIME that unpacks": encoded(SMIME, (size) =>
    compressedEntity(`Content-Type: text/plain\r\n\r\n${repeated("0123456789abcdef", size)}`),
  ),
  "winmail.dat of files": encoded("application/ms-tnef", (size) =>
    tnef(...Array.from({ length: Math.ceil(size / 25) }, () => attribute(2, ID.rendering, Buffer.alloc(14)))),
  ),
  "rich text of groups": encoded("application/ms-tnef", rtf("{")),
  "rich text of words": encoded("application/ms-tnef", rtf("\\par")),
  "rich text of backslashes": encoded("application/ms-tnef", rtf("\\")),
  "rich text of bytes": encoded("application/ms-tnef", rtf("\\'41")),
};
