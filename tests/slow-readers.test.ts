/**
 * Time: what servers, endpoints, a CRM and clients of the API send is read in proportion to its size, whatever it is. Messages have
 * tests of their own (mime-slow.test.ts), and so has every expression (expressions.test.ts).
 */
import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { PassThrough } from "node:stream";
import { describe, test } from "node:test";
import { outgoingMessageFrom } from "../api/routes/creatio/letter.ts";
import { parseListenerPath } from "../api/routes/creatio/paths.ts";
import { parseResponse } from "../shared/mail/ews/autodiscover/protocol.ts";
import { readElements } from "../shared/mail/ews/soap/elements.ts";
import { findFault } from "../shared/mail/ews/soap/errors.ts";
import { fingerprint } from "../shared/mail/fingerprint.ts";
import { listMaildrop, parseReceivedAt } from "../shared/mail/pop3/listing.ts";
import type { Session as Pop3Session } from "../shared/mail/pop3/session.ts";
import { createLineStream } from "../shared/mail/pop3/stream.ts";
import { quoteWords } from "../shared/evidence/evidence.ts";
import { toProblem } from "../shared/mail/problems.ts";
import { parseAddressHeader, parseParties } from "../shared/mail/smtp/addresses.ts";
import { prepareRawMessage } from "../shared/mail/smtp/raw-message.ts";
import { toRecipientResult } from "../shared/mail/smtp/replies.ts";
import { outcomeOfResponse } from "../worker/endpoint/outcome.ts";
import { assertLinear } from "./letters/cost.ts";

const repeated = (text: string) => (size: number) => text.repeat(Math.ceil(size / text.length));
const around =
  (before: string, text: string, after = "") =>
  (size: number) =>
    before + repeated(text)(size) + after;

/** The text in chunks of this many bytes. */
async function* inChunks(text: string, bytes: number): AsyncGenerator<Buffer> {
  const all = Buffer.from(text, "latin1");
  for (let at = 0; at < all.length; at += bytes) yield all.subarray(at, at + bytes);
}

/** Reads to the end or to the Problem that the reader finds in it. */
async function settle(work: () => unknown): Promise<void> {
  try {
    await work();
  } catch (error) {
    assert.ok(error instanceof Error);
  }
}

type Case = [name: string, make: (size: number) => string];
function measure(cases: Case[], read: (text: string) => unknown): void {
  for (const [name, make] of cases) test(name, () => assertLinear(make, (text) => settle(() => read(text))));
}

const XML: Case[] = [
  ["a tag that does not end", around('<a b="', "x")],
  ["a tag full of signs that end tags", around('<a b="', ">")],
  ["a comment that does not end", around("<!--", "-->".slice(0, 2))],
  ["a comment full of signs that end tags", around("<!--", "x>")],
  ["character data that does not end", around("<![CDATA[", "]]")],
  ["attributes", around("<a ", "b='c' ", "/>")],
  ["names without values", around("<a ", "b ", "/>")],
  ["names without blanks", around("<a ", "b", "=''/>")],
  ["equal signs", around("<a ", "=", "/>")],
  ["elements", around("<Account>", "<a></a>", "</Account>")],
  ["references to characters", around("<Account>", "&amp;", "</Account>")],
  ["open references to characters", around("<Account>", "&", "</Account>")],
  ["references in base64", around("<Account><Content>", "&a", "</Content></Account>")],
  ["one open reference in base64", around("<Account><Content>&", "QUJD", "</Content></Account>")],
];

describe("An answer of Exchange takes time in proportion to its size", () => {
  measure(XML, async (text) => {
    const chunks = inChunks(text, 100);
    for await (const element of readElements(chunks, { names: ["Account"], base64: "Content" })) assert.ok(element);
  });
  measure(
    XML.map(([name, make]): Case => [`${name}, from autodiscover`, make]),
    (text) => parseResponse(inChunks(text, 100)),
  );
  const pieces = [
    "<",
    "<title",
    "<faultcode",
    "<m:MessageText",
    '<ResponseCode x="',
    'Name="BackOffMilliseconds"',
    "<a ",
  ];
  measure(
    pieces.map((piece): Case => [`a fault of ${piece}`, repeated(piece)]),
    findFault,
  );
});

describe("A POP3 server's bytes take time in proportion to their number", () => {
  test("when nobody asked for them", () =>
    assertLinear(repeated("x"), async (text) => {
      const socket = new PassThrough();
      const lines = createLineStream(socket as unknown as Socket);
      lines.loggedIn();
      for await (const chunk of inChunks(text, 50)) socket.emit("data", chunk);
      assert.equal(lines.unread, text.length);
    }));
  measure(
    [
      ["in a block of dots", around("", ".\r\n..\r\n", "\r\n.\r\n")],
      ["in a block of line ends", around("", "\r\n", ".\r\n")],
      ["in a block of half ends", around("", "\r\n.\r", "\r\n.\r\n")],
    ],
    async (text) => {
      const socket = new PassThrough();
      const lines = createLineStream(socket as unknown as Socket);
      lines.loggedIn();
      const block = lines.readBlock(100_000_000);
      for await (const chunk of inChunks(text, 50)) socket.emit("data", chunk);
      assert.ok((await block).length > 0);
    },
  );
  test("when all messages have one id and one header", () =>
    assertLinear(
      (size) => Array.from({ length: Math.ceil(size / 20) }, (_, index) => index + 1),
      async (numbers) => {
        const session = {
          count: async () => numbers.length,
          sizeOf: async () => 100,
          uidlsOf: async (asked: readonly number[]) => asked.map(() => "the same"),
          list: async () => new Map(numbers.map((number) => [number, 100])),
          uidl: async () => new Map(numbers.map((number) => [number, "the same"])),
          async *fetchHeaders(wanted: readonly number[]) {
            for (const number of wanted) yield { number, block: Buffer.from("Subject: x\r\n\r\n") };
          },
        };
        const { messages } = await listMaildrop(session as unknown as Pop3Session);
        assert.equal(new Set(messages.map(({ key }) => key)).size, numbers.length);
      },
    ));

  const heads: Case[] = [
    ["Received fields", repeated("Received: from a; Mon, 5 Jan 2026 09:00:00 +0000\r\n")],
    ["comments in a date", around("Received: x; ", "(")],
    ["lines that are no field", repeated("no field\r\n")],
  ];
  measure(heads, (text) => parseReceivedAt(Buffer.from(text), Date.now()));
  measure(
    heads.map(([name, make]): Case => [`${name} in a fingerprint`, make]),
    (text) => fingerprint(Buffer.from(text)),
  );
});

const WORDS = [
  "x",
  " ",
  "authentication ",
  "exceeded ",
  "password account ",
  "too many ",
  "[ALERT] ",
  "5.7.1 ",
  "(",
  "Suggested Backoff Time",
];

describe("The words of a mail server or an endpoint take time in proportion to their number", () => {
  const cases = WORDS.map((word): Case => [JSON.stringify(word), repeated(word)]);
  for (const step of ["login", "command"] as const)
    measure(
      cases.map(([name, make]): Case => [`${name}, at ${step}`, make]),
      (text) =>
        toProblem(Object.assign(new Error(text), { response: text, responseStatus: "NO", serverResponseCode: "X" }), {
          step,
        }),
    );
  measure(
    cases.map(([name, make]): Case => [`${name}, from SMTP`, make]),
    (text) =>
      toRecipientResult("a@b.example", { status: 550, response: text, text, command: "RCPT TO" } as never, {
        secrets: ["secret"],
      }),
  );
  measure(
    cases.map(([name, make]): Case => [`${name}, with secrets`, make]),
    (text) => quoteWords(text, { secrets: ["x", "secret", text] }),
  );
  measure(
    cases.map(([name, make]): Case => [`${name}, from an endpoint`, make]),
    (text) => outcomeOfResponse({ status: 500, headers: {}, text }, () => ({ secrets: [] }), 1, new Date()),
  );
  measure(
    cases.map(([name, make]): Case => [`${name}, beside the message`, make]),
    (text) => quoteWords(text, { secrets: [], message: text }),
  );
});

const ADDRESSES = ["a@b, ", "@", "<", '"', "(", ",", ";", "a ", "a@", '"a" <a@b>, ', "=?utf-8?Q?", "\\", "g:a@b;"];

describe("What clients and a CRM send takes time in proportion to its size", () => {
  const cases = ADDRESSES.map((piece): Case => [JSON.stringify(piece), repeated(piece)]);
  measure(
    cases.map(([name, make]): Case => [`addresses of ${name}`, make]),
    (text) => {
      parseAddressHeader(text);
      parseParties([text], "to", []);
    },
  );
  measure(
    cases.map(([name, make]): Case => [`a ready message with ${name}`, make]),
    (text) => prepareRawMessage(Buffer.from(`From: ${text}\r\nTo: ${text}\r\nX-A: b\r\n\r\n${text}`), [], new Date()),
  );
  measure(
    cases.map(([name, make]): Case => [`a letter of a CRM with ${name}`, make]),
    (text) =>
      outgoingMessageFrom({
        Email: {
          Recepients: [text, `a@b.example ${text}`],
          Headers: [`X-A=${text}`, text],
          References: text,
          Body: text,
        },
      }),
  );
  measure(
    ["/", "api/", "-", "v2.0/"].map((piece): Case => [`a path of ${piece}`, around("/api/", piece)]),
    (text) => parseListenerPath(text, text),
  );
});
