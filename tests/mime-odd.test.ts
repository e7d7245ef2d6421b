import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import * as fc from "fast-check";
import * as v from "valibot";
import { ParsedMessage } from "../shared/contract/received.ts";
import { mimeParser } from "../shared/mail/mime/parse.ts";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { message } from "./servers/mail.ts";
import { oddMessages } from "./servers/odd-mail.ts";

const limits = { maxAttachmentBytes: 26_214_400 };
const parse = (raw: Uint8Array) => parseMessage(raw, limits);

/** What makes a parser change its mind. */
const FRAGMENTS = [
  "\r\n",
  "\n",
  "\0",
  "=\r\n",
  "--b",
  "--b--",
  "--b\r\n",
  "From: <",
  "To: a:b:;",
  '"',
  "(",
  ";",
  "=?utf-8?B?",
  "?=",
  "Content-Type: multipart/mixed; boundary=b\r\n",
  "Content-Type: multipart/digest; boundary=b\r\n",
  "Content-Type: message/rfc822\r\n",
  "Content-Type: message/delivery-status\r\n",
  "Content-Type: text/calendar; method=x\r\n",
  "Content-Type: text/html; charset=utf-16\r\n",
  "Content-Transfer-Encoding: base64\r\n",
];

describe("An odd message", () => {
  for (const [name, make] of Object.entries(oddMessages)) {
    test(`is delivered whatever is wrong with it: ${name}`, async () => {
      const parsed = await parse(make());
      assert.ok(v.is(ParsedMessage, parsed));
      assert.ok(!JSON.stringify({ ...parsed, attachments: [] }).includes("\\u0000"));
    });
  }

  test("is read in other charsets than it says, or says none", async () => {
    assert.match((await parse(oddMessages.brokenCharset())).text ?? "", /^你好/);
    const unknown = await parse(oddMessages.unknownCharset());
    assert.match(unknown.subject, /^안녕/);
    assert.match(unknown.text ?? "", /^café/);
    const raw = await parse(oddMessages.rawHeaders());
    assert.deepEqual([raw.subject, raw.from?.name], ["Grüße aus Köln", "Jürgen Müller"]);
    assert.equal((await parse(oddMessages.splitEncodedWord())).subject, "Grüße an 日本語 und 🎉");
  });

  test("cannot reach the prototypes of objects by its header names", async () => {
    const parsed = await parse(oddMessages.prototypeHeaders());
    assert.equal(parsed.headers.filter(([, value]) => value === "polluted").length, 6);
    assert.equal(({} as Record<string, unknown>)["polluted"], undefined);
    assert.equal(parsed.text?.trim(), "Hello");
  });

  test("gives the sender behind an unclosed quote, and never the address inside a name", async () => {
    const parsed = await parse(oddMessages.garbledAddresses());
    assert.equal(parsed.from?.address, "ann@sender.example");
    assert.deepEqual(
      parsed.cc.map((party) => party.address),
      ["real@sender.example"],
    );
  });

  test("loses only what lies beyond the bounds, and says so", async () => {
    const many = await parse(oddMessages.manyParts());
    assert.match(many.text ?? "", /^part 0\npart 1\n/);
    assert.match(many.limited?.join() ?? "", /parts after the first 1000 kept as one attachment/);
    const deep = await parse(oddMessages.deepNesting());
    assert.match(deep.limited?.join() ?? "", /nested deeper than 50 levels/);
    const headers = await parse(oddMessages.hugeHeaders());
    assert.equal(headers.text?.trim(), "small body");
    assert.ok(headers.limited);
    const addresses = await parse(oddMessages.manyAddresses());
    assert.equal(addresses.to.length, 1000);
    assert.match(addresses.subject, /50000 receivers/);
    assert.match((await parse(oddMessages.manyParameters())).limited?.join() ?? "", /parameters/);
  });

  test("is read for any bytes, and gives well-formed text", async () => {
    const bytes = fc.uint8Array({ maxLength: 60 }).map((some) => Buffer.from(some));
    const words = fc.constantFrom(...FRAGMENTS).map((text) => Buffer.from(text));
    const piece = fc.oneof(bytes, words);
    await fc.assert(
      fc.asyncProperty(fc.array(piece, { maxLength: 30 }), async (pieces) => {
        const parsed = await parse(Buffer.concat(pieces));
        assert.ok(v.is(ParsedMessage, parsed));
        const text = JSON.stringify(parsed);
        assert.ok(!text.includes("\\u0000") && !/\\ud[89a-f]/.test(text));
      }),
      { numRuns: 300 },
    );
  });
});

describe("The parser with threads", () => {
  const parser = mimeParser({ inlineBytes: 1000 });
  after(() => parser.close());

  test("parses large messages in threads, many at once, and leaves the bytes to the caller", async () => {
    const raw = message({ attachments: [{ filename: "a", content: Buffer.alloc(3000, 7) }] });
    const copy = Buffer.from(raw);
    const all = await Promise.all(Array.from({ length: 8 }, () => parser.parse(raw, limits)));
    for (const parsed of all) assert.deepEqual(parsed, await parseMessage(raw, limits));
    assert.deepEqual(raw, copy);
  });

  test("leaves attachments over the size out, with their true size", async () => {
    const parsed = await parser.parse(oddMessages.largeAttachment(), limits);
    assert.equal(parsed.attachments[0]?.content, null);
    assert.ok((parsed.attachments[0]?.size ?? 0) > 60_000_000);
    assert.deepEqual(parsed.limited, ["attachments over 26214400 bytes left out"]);
  });

  test("gives up a message at the deadline, delivers its header, and goes on with the next", async () => {
    const hasty = mimeParser({ deadlineMs: 1, inlineBytes: 1000, threads: 1 });
    const late = await hasty.parse(oddMessages.largeAttachment({ subject: "Too slow" }), limits);
    assert.equal(late.subject, "Too slow");
    assert.match(late.limited?.join() ?? "", /parsing took longer than 0\.001 seconds/);
    assert.equal((await hasty.parse(Buffer.from("Subject: next\r\n\r\n"), limits)).subject, "next");
    await hasty.close();
  });

  test("stops waiting when the signal aborts", async () => {
    const stop = new AbortController();
    const parsing = parser.parse(oddMessages.largeAttachment(), limits, stop.signal);
    stop.abort(new DOMException("stopping", "AbortError"));
    await assert.rejects(parsing, { name: "AbortError" });
  });
});
