/** More messages made to cost: every header field and every place of the structure, filled with every piece that readers look for. */
import { gzipSync } from "node:zlib";
import type { Grow } from "./slow.ts";

const repeated = (text: string, size: number) => text.repeat(Math.ceil(size / text.length));

/** Pieces that begin something, end something, or stand between. */
// prettier-ignore
const PIECES = {
  blanks: " ", tabs: "\t", folds: "\r\n ", "folded lines": "a\r\n ", "carriage returns": "\r", commas: ",", semicolons: ";", colons: ":",
  quotes: '"', "escaped quotes": '\\"', backslashes: "\\", apostrophes: "'", brackets: "<", "closed brackets": "<>", parentheses: "(",
  "closed parentheses": "()", "square brackets": "[", signs: "@", "halves of addresses": "a@", addresses: "a@b,", names: "a <a@b>,",
  "names without addresses": "a, ", groups: "g:a@b;", words: "=?utf-8?B?YQ==?= ", "words of Q": "=?utf-8?Q?=C3?=", "open words": "=?utf-8?Q?",
  "beginnings of words": "=?", "ends of words": "?=", equals: "=", parameters: ";a=b", "parameters in pieces": ";filename*0=a",
  "encoded parameters": ";filename*=utf-8''%C3", "open parameters": ';a="', percents: "%", stars: "*", slashes: "/", dots: ".", dashes: "-",
  digits: "0", letters: "a", "raw bytes": "\u00E4", "broken UTF-8": "\u00C3", ids: "<a@b>", "NUL bytes": "\0", escapes: "\u001B$B", comments: "(a)",
} satisfies Record<string, string>;

// prettier-ignore
const FIELDS = ["From", "To", "Subject", "Date", "Message-ID", "References", "In-Reply-To", "Content-Type", "Content-Disposition",
  "Content-Transfer-Encoding", "Return-Path", "X-Other"];

/** Bodies of one repeated piece, by the header in front of them. */
const BODIES: Record<string, [header: string, piece: string]> = {
  "stray lines of a header": ["From: a@b.example\r\nno field", "no field\r\n"],
  "stray lines and fields": ["From: a@b.example\r\nno field", "no field\r\nX-A: b\r\n"],
  "lines of an address list": ["From: a@b.example\r\nTo: a@b.example,", "a@b.example,\r\n"],
  "mbox lines": ["From: a@b.example", "From a@b.example Mon Jan 5 10:00:00 2026\r\n"],
  "empty fields": ["From: a@b.example", "X:\r\n"],
  delimiters: ["Content-Type: multipart/mixed; boundary=b\r\n", "--b\r\n"],
  "last delimiters": ["Content-Type: multipart/mixed; boundary=b\r\n", "--b--\r\n"],
  "other delimiters": ["Content-Type: multipart/mixed; boundary=b\r\n", "--c\r\n"],
  "dashes at the beginning of lines": ["Content-Type: multipart/mixed; boundary=b\r\n", "--\r\n"],
  "parts without content": ["Content-Type: multipart/mixed; boundary=b\r\n", "--b\r\n\r\n"],
  "multiparts in each other": [
    "Content-Type: multipart/mixed; boundary=b\r\n",
    "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n",
  ],
  "multiparts without a boundary": [
    "Content-Type: multipart/mixed\r\n",
    "--b\r\nContent-Type: multipart/mixed\r\n\r\n",
  ],
  "multiparts with wrong boundaries": [
    "Content-Type: multipart/mixed; boundary=x\r\n",
    "--b\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n",
  ],
  "multiparts without delimiters": [
    "Content-Type: multipart/mixed; boundary=b\r\n",
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n",
  ],
  "messages in each other": ["Content-Type: message/rfc822\r\n", "Content-Type: message/rfc822\r\n\r\n"],
  "headers of parts": ["Content-Type: multipart/mixed; boundary=b\r\n\r\n--b", "Content-Type: text/plain; name=a\r\n"],
  "files in uuencode": ["From: a@b.example\r\n", "begin 644 a\r\n#86)C\r\nend\r\n"],
  "beginnings of uuencode": ["From: a@b.example\r\n", "begin 644 a\r\n"],
  "lines of uuencode": ["From: a@b.example\r\n\r\nbegin 644 a", "#86)C\r\n"],
  "lines of uuencode that lost their blanks": ["From: a@b.example\r\n\r\nbegin 644 a", "M\r\n"],
  "control characters": ["Content-Type: text/plain; charset=utf-8\r\n\r\n\u00E3\u0081\u0082", "\u0001"],
  "a calendar of control characters": [
    "Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR\r\n\u00E3\u0081\u0082",
    "\u0001",
  ],
  "lines before empty parts": ["Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n--b--", "a\r\n"],
  "soft breaks": ["Content-Transfer-Encoding: quoted-printable\r\n", "=\r\n"],
  "blanks behind soft breaks": ["Content-Transfer-Encoding: quoted-printable\r\n", "=     \t   "],
  "escapes of quoted-printable": ["Content-Transfer-Encoding: quoted-printable\r\n", "=4"],
  "padding of base64": ["Content-Transfer-Encoding: base64\r\n", "QQ==\r\n"],
  "signs of padding": ["Content-Transfer-Encoding: base64\r\n", "="],
  "an unknown encoding": ["Content-Transfer-Encoding: x-unknown\r\n", "QUJD\r\n"],
  "flowed lines": ["Content-Type: text/plain; format=flowed; delsp=yes\r\n", "a \r\n"],
  "flowed quotations": ["Content-Type: text/plain; format=flowed\r\n", ">"],
  "escapes of ISO 2022": ["Content-Type: text/plain; charset=iso-2022-jp\r\n", "\u001B$B0\u001B(I0\u001B$(C0"],
  "switches of HZ": ["Content-Type: text/plain; charset=hz-gb-2312\r\n", "~{~}"],
  "words of UTF-7": ["Content-Type: text/plain; charset=utf-7\r\n", "+AGE-"],
  "letters of CESU-8": ["Content-Type: text/plain; charset=cesu-8\r\n", "\u00C3\u00A4\u00ED"],
  "shifts of UTF-7": ["Content-Type: text/plain; charset=utf-7\r\n", "+-+A"],
  "bytes of Shift_JIS": ["Content-Type: text/plain; charset=shift_jis\r\n", "\u0082\u00A0"],
  "bytes of GB 18030": ["Content-Type: text/plain; charset=gb18030\r\n", "\u0081\u0030\u0081"],
  "halves of UTF-8": ["Content-Type: text/plain\r\n", "\u00E3\u0081"],
  "meta elements": ["Content-Type: text/html\r\n", "<meta charset="],
  "a text of quotes before HTML": [
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/html\r\n\r\n<b>\r\n--b\r\n",
    '"',
  ],
  "HTML beside a text": [
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n",
    '<a href="',
  ],
  "tags beside a text": [
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n",
    "<b> </b> ",
  ],
  "open comments beside a text": [
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n",
    "<!--",
  ],
  "open scripts beside a text": [
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n",
    "<script><style>",
  ],
  "entities beside a text": [
    "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b\r\nContent-Type: text/html\r\n",
    "&amp&#1",
  ],
};

const bytes = (...texts: string[]) => Buffer.from(texts.join(""), "latin1");

/** By what they are made of. */
export const slowValues: Record<string, Grow> = {
  ...Object.fromEntries(
    Object.entries(PIECES).flatMap(([name, piece]) => [
      [
        `${name} in each field`,
        (size: number) => {
          const each = repeated(piece, size / FIELDS.length);
          return bytes(...FIELDS.map((field) => `${field}: ${each}x\r\n`), "\r\n", "text");
        },
      ],
      [
        `${name} in the header of a part`,
        (size: number) => {
          const each = repeated(piece, size / 2);
          const head = `Content-Type: a/b; name="${each}\r\nContent-Disposition: attachment; filename=${each}`;
          return bytes("Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n", head, "\r\n\r\nx\r\n--b--");
        },
      ],
      [
        `${name} in a text and in HTML`,
        (size: number) => {
          const each = repeated(piece, size / 2);
          const type = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n";
          return bytes(type, each, "\r\n--b\r\nContent-Type: text/html\r\n\r\n", each);
        },
      ],
    ]),
  ),
  ...Object.fromEntries(
    Object.entries(BODIES).map(([name, [header, piece]]) => [
      name,
      (size: number) => bytes(header, "\r\n", repeated(piece, size)),
    ]),
  ),
  "a message in gzip": (size) => gzipSync(Buffer.alloc(size, "a")),
};
