/**
 * The messages that break mail software, each one seen in the wild: broken charsets, bombs, bounces, prototype-shaped
 * header names. `oddMessages` lists them by name, so that a test can send them all.
 */
import { bombs } from "./odd-bombs.ts";
import { type Head, headLines, joined, leaf, message, multipart } from "./mail.ts";

/** Builds one odd message; its head can be changed, so that a test finds it again. */
export type OddMessage = (head?: Head) => Buffer;

/** Every odd message by name, the big ones (60 MB, 10,000 parts, 300 levels) included. */
export const oddMessages = {
  brokenCharset,
  unknownCharset,
  noMessageId: (head?: Head) => message({ ...head, messageId: null, subject: head?.subject ?? "Without a Message-ID" }),
  rawHeaders,
  prototypeHeaders,
  unterminatedBoundary,
  garbledAddresses,
  splitEncodedWord,
  inlineImage,
  calendarInvitation,
  bounce,
  autoReply,
  nestedMessage,
  winmail,
  noBlankLine,
  empty: () => Buffer.from("\r\n"),
  nulBytes,
  ...bombs,
} satisfies Record<string, OddMessage>;

// The label says gb2312, the bytes are GB18030 (a four-byte character) and then not even that.
function brokenCharset(head?: Head): Buffer {
  const bytes = Buffer.from([0xc4, 0xe3, 0xba, 0xc3, 0x81, 0x30, 0x81, 0x30, 0xff, 0xfe, 0x0d, 0x0a]);
  const about = ["Content-Type: text/plain; charset=gb2312", "Content-Transfer-Encoding: 8bit", ""];
  return Buffer.concat([joined(headLines({ subject: "Broken charset", ...head }), about), bytes]);
}

function unknownCharset(head?: Head): Buffer {
  const about = ["Content-Type: text/plain; charset=x-unknown", "Content-Transfer-Encoding: quoted-printable", ""];
  const subject = "=?ks_c_5601-1987?B?vsiz5w==?= =?x-nobody-knows?Q?caf=E9?=";
  return joined(headLines({ subject, ...head }), [...about, "caf=E9 and =FF=FE, a soft=", "break, a bad =ZZ escape"]);
}

// ISO 8859-1 and UTF-8 bytes straight in the header, as many old scanners and shops send them.
function rawHeaders(head?: Head): Buffer {
  const latin = Buffer.from(
    "From: J\xfcrgen M\xfcller <juergen@sender.example>\r\nX-Latin: \xe4\xf6\xfc\r\n",
    "latin1",
  );
  const utf8 = Buffer.from("X-Utf8: Grüße\r\nSubject: Grüße aus Köln\r\n");
  const { from, subject, ...others } = head ?? {};
  const rest = headLines(others).filter((line) => !/^(From|Subject):/.test(line));
  const asked = [from && `From: ${from}`, subject && `Subject: ${subject}`]
    .filter(Boolean)
    .map((line) => `${line}\r\n`);
  return Buffer.concat([
    Buffer.from(asked.join("")),
    latin,
    utf8,
    joined(rest, leaf("text/plain", "8-bit headers\r\n")),
  ]);
}

function prototypeHeaders(head?: Head): Buffer {
  const names = ["__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "valueOf"];
  const lines = [
    ...headLines({ subject: "Headers named like prototypes", ...head }),
    ...names.map((name) => `${name}: polluted`),
  ];
  return joined(lines, leaf('text/plain; charset=utf-8; __proto__="x"; constructor=y', "Hello\r\n"));
}

function unterminatedBoundary(head?: Head): Buffer {
  const lines = multipart(
    "mixed",
    [leaf("text/plain", "before"), leaf("application/pdf", Buffer.alloc(300, 7))],
    "cut",
  );
  const cut = lines.slice(0, lines.indexOf("--cut--") - 1);
  return joined(headLines({ subject: "Cut off in the middle", ...head }), cut);
}

function garbledAddresses(head?: Head): Buffer {
  const { from, ...others } = head ?? {};
  const lines = headLines({ subject: "Garbled addresses", ...others }).filter((line) => !/^(From|To):/.test(line));
  const addresses = [
    `From: ${from ?? '"Unclosed quote <ann@sender.example>, (comment (nested) bob@'}`,
    'To: undisclosed-recipients:;, <>, @, a@b@c, ""@x, <<<x@y.example>>>, ,,,, Group: a@b.example, c@d.example;',
    "Cc: =?UTF-8?Q?=22Evil=22_=3Cadmin=40victim.example=3E?= <real@sender.example>",
    "Reply-To: not an address at all",
    "Sender: ann@[127.0.0.1], ann@xn--nxasmq6b.example, ünï@cödé.example",
  ];
  return joined([...addresses, ...lines], leaf("text/plain", "Who is it from?\r\n"));
}

// RFC 2047 forbids to split a character over two encoded words; Outlook and others do it all the same.
function splitEncodedWord(head?: Head): Buffer {
  const bytes = Buffer.from("Grüße an 日本語 und 🎉");
  const at = [3, 11, 15, bytes.length - 2];
  const pieces = [0, ...at].map((from, index) => bytes.subarray(from, at[index] ?? bytes.length));
  const words = pieces.map((piece) => `=?UTF-8?B?${piece.toString("base64")}?=`).join("\r\n ");
  return message({ subject: words, text: "See the subject.\r\n", ...head });
}

function inlineImage(head?: Head): Buffer {
  const png = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const logo = { filename: "logo.png", type: "image/png", content: Buffer.from(png, "base64"), cid: "logo@sender" };
  const html = '<p>Our logo: <img src="cid:logo@sender"></p>';
  return message({ subject: "With an inline image", text: "Our logo", html, attachments: [logo], ...head });
}

function calendarInvitation(head?: Head): Buffer {
  const calendar = [
    "BEGIN:VCALENDAR",
    "VERSION:2.0",
    "PRODID:-//Sender//Calendar//EN",
    "METHOD:REQUEST",
    "BEGIN:VEVENT",
    "UID:meeting-1@sender.example",
    "DTSTAMP:20260105T090000Z",
    "DTSTART:20260112T090000Z",
    "DTEND:20260112T100000Z",
    "SUMMARY:Planning",
    "ORGANIZER:mailto:ann@sender.example",
    "ATTENDEE;RSVP=TRUE:mailto:bob@receiver.example",
    "END:VEVENT",
    "END:VCALENDAR",
    "",
  ].join("\r\n");
  const parts = [
    leaf("text/plain; charset=utf-8", "You are invited.\r\n"),
    leaf("text/calendar; charset=utf-8; method=REQUEST", calendar),
  ];
  return joined(headLines({ subject: "Invitation: Planning", ...head }), multipart("alternative", parts));
}

/** A delivery status notification, RFC 3464, about the message <original@receiver.example>. */
function bounce(head?: Head): Buffer {
  const status = [
    "Reporting-MTA: dns; mx.sender.example",
    "Arrival-Date: Mon, 5 Jan 2026 09:00:00 +0000",
    "",
    "Final-Recipient: rfc822; nobody@sender.example",
    "Action: failed",
    "Status: 5.1.1",
    "Diagnostic-Code: smtp; 550 5.1.1 User unknown",
    "",
  ].join("\r\n");
  const original = ["From: bob@receiver.example", "To: nobody@sender.example", "Subject: Are you there?"];
  const parts = [
    leaf("text/plain", "Your message could not be delivered.\r\n"),
    leaf("message/delivery-status", status),
    leaf("text/rfc822-headers", [...original, "Message-ID: <original@receiver.example>", ""].join("\r\n")),
  ];
  const defaults = { from: "Mail Delivery System <MAILER-DAEMON@sender.example>", subject: "Undelivered Mail" };
  const headers = { "Return-Path": "<>", "Auto-Submitted": "auto-replied", ...head?.headers };
  return joined(headLines({ ...defaults, ...head, headers }), multipart("report; report-type=delivery-status", parts));
}

function autoReply(head?: Head): Buffer {
  const headers = {
    "Auto-Submitted": "auto-replied",
    "X-Auto-Response-Suppress": "All",
    Precedence: "bulk",
    "In-Reply-To": "<original@receiver.example>",
    ...head?.headers,
  };
  return message({ subject: "Out of office", text: "I am away until Monday.\r\n", ...head, headers });
}

function nestedMessage(head?: Head): Buffer {
  const file = { filename: "inner.txt", content: "inner attachment" };
  const inner = message({ subject: "The inner one", text: "Inner text\r\n", attachments: [file] }).toString("latin1");
  const parts = [leaf("text/plain", "Please see below.\r\n"), leaf("message/rfc822", inner)];
  return joined(headLines({ subject: "Fwd: The inner one", ...head }), multipart("mixed", parts));
}

/** A winmail.dat (TNEF, MS-OXTNEF) that holds one attachment, hello.txt. */
function winmail(head?: Head): Buffer {
  const start = Buffer.from([0x78, 0x9f, 0x3e, 0x22, 0x01, 0x00]);
  const content = Buffer.concat([
    start,
    tnefAttribute(1, 0x00089006, Buffer.from([0, 0, 1, 0])),
    tnefAttribute(2, 0x00069002, Buffer.alloc(14, 1)),
    tnefAttribute(2, 0x00018010, Buffer.from("hello.txt\0")),
    tnefAttribute(2, 0x0006800f, Buffer.from("Hello from inside TNEF")),
  ]);
  const file = { filename: "winmail.dat", type: "application/ms-tnef", content };
  return message({ subject: "From Outlook", text: "See the attachment.\r\n", attachments: [file], ...head });
}

function tnefAttribute(level: number, id: number, content: Buffer): Buffer {
  const around = Buffer.alloc(11);
  around.writeUInt8(level, 0);
  around.writeUInt32LE(id, 1);
  around.writeUInt32LE(content.length, 5);
  around.writeUInt16LE(
    content.reduce((sum, byte) => (sum + byte) & 0xffff, 0),
    9,
  );
  return Buffer.concat([around.subarray(0, 9), content, around.subarray(9)]);
}

function noBlankLine(head?: Head): Buffer {
  const lines = headLines({ subject: "Head and body run together", ...head });
  return joined(lines, [
    "This line is no header but follows without a blank line",
    "and so does this one: is it a header?",
  ]);
}

function nulBytes(head?: Head): Buffer {
  return joined(
    headLines({ subject: "NUL bytes", ...head }),
    Buffer.from("Content-Type: text/plain\r\n\r\na\0b\0c\rd\n\r\n"),
  );
}
