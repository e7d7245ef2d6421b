/** Persons, dates and message ids as mailers write them: right or empty, never wrong as if sure. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";

const parse = (head: string) => parseMessage(Buffer.from(`${head}\r\n\r\nhi`), { maxAttachmentBytes: 1000 });

describe("An address", () => {
  const lists: [string, ...[string, string][]][] = [
    ["Ann <ann@a.example>", ["Ann", "ann@a.example"]],
    ["Roe, Jane <jane@a.example>", ["Roe, Jane", "jane@a.example"]],
    ["Roe, Jane, PhD <jane@a.example>", ["Roe, Jane, PhD", "jane@a.example"]],
    ["Roe, Jane <j@a.example>, Poe, Ed <e@b.example>", ["Roe, Jane", "j@a.example"], ["Poe, Ed", "e@b.example"]],
    ["ann@a.example, Bob <bob@b.example>", ["", "ann@a.example"], ["Bob", "bob@b.example"]],
    ['"Roe, Jane" <jane@a.example>', ["Roe, Jane", "jane@a.example"]],
    ['"Jane \\"JR\\" Roe" <jane@a.example>', ['Jane "JR" Roe', "jane@a.example"]],
    ['"Jane "JR" Roe" <jane@a.example>', ["Jane JR Roe", "jane@a.example"]],
    ['\\"Jane\\" <jane@a.example>', ["Jane", "jane@a.example"]],
    ["'Jane Roe' <jane@a.example>", ["Jane Roe", "jane@a.example"]],
    ["'jane@a.example'", ["", "jane@a.example"]],
    ['"jane@a.example"', ["", "jane@a.example"]],
    ['"jane@a.example" <jane@a.example>', ["", "jane@a.example"]],
    ['"boss@c.example" <jane@a.example>', ["boss@c.example", "jane@a.example"]],
    ["jane@a.example (Jane Roe)", ["Jane Roe", "jane@a.example"]],
    ["jane@a.example (Jane (at home) Roe)", ["Jane (at home) Roe", "jane@a.example"]],
    ["jane(home)@a.example(work)", ["home work", "jane@a.example"]],
    ["Jane Roe jane@a.example", ["Jane Roe", "jane@a.example"]],
    ["Jane <jane@a.example", ["Jane", "jane@a.example"]],
    ["Jane jane@a.example>", ["Jane", "jane@a.example"]],
    ["<<jane@a.example>>", ["", "jane@a.example"]],
    ["Jane <jane@a.example, Ed <ed@b.example>", ["Jane", "jane@a.example"], ["Ed", "ed@b.example"]],
    ["Jane (Sales <jane@a.example>", ["Jane (Sales", "jane@a.example"]],
    ['Jane "the <jane@a.example>, ed@b.example', ["Jane the", "jane@a.example"], ["", "ed@b.example"]],
    ["jane@a.example; ed@b.example", ["", "jane@a.example"], ["", "ed@b.example"]],
    ["jane@a.example ed@b.example", ["", "jane@a.example"], ["", "ed@b.example"]],
    ["Jane <jane@a.example> Ed <ed@b.example>", ["Jane", "jane@a.example"], ["Ed", "ed@b.example"]],
    ["<mailto:jane@a.example>", ["", "jane@a.example"]],
    ["Jane [mailto:jane@a.example]", ["Jane", "jane@a.example"]],
    ["<@r.example,@s.example:jane@a.example>", ["", "jane@a.example"]],
    ["jane . roe @ a . example", ["", "jane.roe@a.example"]],
    ['"jane roe"@a.example', ["", '"jane roe"@a.example']],
    ['Jane <"jane roe"@a.example>', ["Jane", '"jane roe"@a.example']],
    ["jane@[192.0.2.1]", ["", "jane@[192.0.2.1]"]],
    ["jane@[IPv6:2001:db8::1]", ["", "jane@[IPv6:2001:db8::1]"]],
    ["Jürgen <jürgen@köln.example>", ["Jürgen", "jürgen@köln.example"]],
    [
      "team: jane@a.example, Ed <ed@b.example>; bob@c.example",
      ["", "jane@a.example"],
      ["Ed", "ed@b.example"],
      ["", "bob@c.example"],
    ],
    ["undisclosed-recipients:;"],
    ["Re: your order <jane@a.example>", ["Re: your order", "jane@a.example"]],
    ["MAILER-DAEMON", ["", "MAILER-DAEMON"]],
    ["root (Charlie Root)", ["Charlie Root", "root"]],
    ["<Undisclosed-Recipients:@a.example;>"],
    ["Mail system <MAILER-DAEMON>", ["Mail system", "MAILER-DAEMON"]],
    ["not to be answered", ["not to be answered", ""]],
    ["=?utf-8?Q?Roe, Jane?= <jane@a.example>", ["Roe, Jane", "jane@a.example"]],
    ["=?utf-8?Q?Roe=2C_Jane?= <jane@a.example>", ["Roe, Jane", "jane@a.example"]],
    ["=?utf-8?Q?Jane (:?= <jane@a.example>", ["Jane (:", "jane@a.example"]],
    ["=?utf-8?Q?J=C3=A4?= =?utf-8?Q?ne?= <jane@a.example>", ["Jäne", "jane@a.example"]],
    ['"=?utf-8?B?SsOkbmU=?=" <jane@a.example>', ["Jäne", "jane@a.example"]],
    ["=?utf-8?Q?Boss_=3Cboss=40c.example=3E?= <jane@a.example>", ["Boss <boss@c.example>", "jane@a.example"]],
    ["=?utf-8?Q?Jane_=3Cjane=40a.example=3E?=", ["Jane", "jane@a.example"]],
    ["jane@a.example <jane>", ["", "jane@a.example"]],
    ["Jane <>, ed@b.example", ["Jane", ""], ["", "ed@b.example"]],
  ];
  for (const [value, ...expected] of lists)
    test(`list ${value} is taken apart`, async () => {
      const { to } = await parse(`To: ${value}`);
      assert.deepEqual(
        to.map(({ name, address }) => [name, address]),
        expected,
      );
    });

  test("of the sender is the one that can be answered", async () => {
    const { from } = await parse("From: Jane; Roe <jane@a.example>");
    assert.equal(from?.address, "jane@a.example");
    assert.equal((await parse("From: \r\nFrom: jane@a.example")).from?.address, "jane@a.example");
  });
});

describe("A date", () => {
  const NINE = "2026-01-05T09:00:00.000Z";
  const dates: [string, string | null][] = [
    ["Mon, 5 Jan 2026 09:00:00 GMT", NINE],
    ["Mon,5 Jan 2026 10:00:00 +0100", NINE],
    ["5 Jan 26 10:00 +0100", NINE],
    ["Mon, 05 Jan 126 09:00:00 Z", NINE],
    ["Mon, 5 Jan 2026 03:00:00 -600", NINE],
    ["Mon, 5 Jan 2026 10:00:00 +01:00", NINE],
    ["Mon, 5 Jan 2026 10:00:00 GMT+0100", NINE],
    ["Mon, 5 Jan 2026 11:00:00 UTC+2", NINE],
    ["Mon, 5 Jan 2026 04:00:00 GMT-5", NINE],
    ["Mon, 5 Jan 2026 10:00:00 +0100 (CET)", NINE],
    ["Mon, 5 Jan 2026 10:00:00 +0100 CEST", NINE],
    ["Mon, 5 Jan 2026 (today) 10 : 00 : 00 +0100", NINE],
    ["Mon, 5 Jan 2026 04:00:00 EST", NINE],
    ["Mon, 05-Jan-2026 09:00:00 UT", NINE],
    ["Monday, January 5th, 2026 9:00 AM UTC", NINE],
    ["Mon, 5 Jan 2026 09:00:00 PM +1200", NINE],
    ["Mon, 5 Jan 2026 09:00:0 0000", NINE],
    ["Mon, 5 Jan 2026 04:00:00 -0500", NINE],
    ["Sun, 4 Jan 2026 14:00:00 -1900", NINE],
    ["Mon, 5 Jan 2026 12:30:00 AM +0000", "2026-01-05T00:30:00.000Z"],
    ["Mon Jan  5 09:00:00 2026", NINE],
    ["Mon Jan  5 10:00:00 CET 2026", NINE],
    ["Mon Jan 05 2026 10:00:00 GMT+0100 (Central European Standard Time)", NINE],
    ["2026-01-05T09:00:00Z", NINE],
    ["2026-01-05 10:00:00.000+01:00", NINE],
    ["20260105T090000Z", NINE],
    ["Mon, 5 Jan 2026 09:00:00.250 +0000", "2026-01-05T09:00:00.250Z"],
    ["Mo, 05 Jan 2026 10.00.00 +0100", NINE],
    ["lun., 5 janv. 2026 10:00:00 +0100", NINE],
    ["Пн, 05 янв 2026 12:00:00 +0300", NINE],
    ["Sun, 4 Jan 2026 24:00:00 +0000", "2026-01-05T00:00:00.000Z"],
    ["Sat, 31 Dec 2016 23:59:60 +0000", "2017-01-01T00:00:00.000Z"],
    ["Mon, 5 Jan 2026 09:00:00 IST", null],
    ["Mon, 5 Jan 2026 09:00:00 XYZ", null],
    ["Mon, 5 Jan 2026 09:00:00 A", null],
    ["Mon, 5 Jan 2026 09:00:00 +9900", null],
    ["Mon, 30 Feb 2026 09:00:00 +0000", null],
    ["Mon, 5 Jan 2026 25:00:00 +0000", null],
    ["Mon, 5 Jan 2026 13:00:00 AM +0000", null],
    ["01/05/2026 09:00", null],
    ["05.01.2026 09:00:00", null],
    ["Mon, 5 Jan 2026", null],
    ["1767603600", null],
    ["today", null],
    ["", null],
  ];
  for (const [value, expected] of dates)
    test(`${JSON.stringify(value)} is ${expected ?? "not sure"}`, async () => {
      assert.equal((await parse(`Date: ${value}`)).date, expected);
    });

  test("is taken from the first field that can be read", async () => {
    assert.equal((await parse("Date: soon\r\nDate: Mon, 5 Jan 2026 09:00:00 GMT")).date, NINE);
  });
});

const referencesOf = async (head: string) => (await parse(head)).references;
const inReplyToOf = async (head: string) => (await parse(head)).inReplyTo;
const messageIdOf = async (value: string) => (await parse(`Message-ID: ${value}`)).messageId;
describe("Message ids", () => {
  test("of References come from all fields, with and without brackets, once each", async () => {
    assert.deepEqual(await referencesOf("References: <1@a>\r\n <2@a>,<3@a>\r\nReferences: <1@a> <4@a>"), [
      "<1@a>",
      "<2@a>",
      "<3@a>",
      "<4@a>",
    ]);
    assert.deepEqual(await referencesOf("References: 1@a 2@a, 3@a"), ["<1@a>", "<2@a>", "<3@a>"]);
    assert.deepEqual(await referencesOf("References: =?utf-8?Q?=3C1=40a=3E_=3C2=40a=3E?="), ["<1@a>", "<2@a>"]);
    assert.deepEqual(await referencesOf("References: your letter of Monday"), []);
  });

  test("of In-Reply-To are found among words, and are no addresses of persons", async () => {
    assert.equal(await inReplyToOf("In-Reply-To: Your message of Monday from Ann <ann@a.example>: <1@a>"), "<1@a>");
    assert.equal(await inReplyToOf("In-Reply-To: <1@a> (Ann <ann@a.example>'s message of Monday)"), "<1@a>");
    assert.equal(await inReplyToOf("References: <1@a>\r\nIn-Reply-To: <1@a> from <ann@a.example>"), "<1@a>");
    assert.equal(await inReplyToOf("In-Reply-To: <1@a> <2@a>"), "<1@a>");
    assert.equal(await inReplyToOf("In-Reply-To: 1@a"), "<1@a>");
    assert.equal(await inReplyToOf("In-Reply-To: your message"), null);
  });

  test("of the message are taken with and without brackets, without white space", async () => {
    assert.equal(await messageIdOf("<1@\r\n a>"), "<1@a>");
    assert.equal(await messageIdOf("1@a"), "<1@a>");
    assert.equal(await messageIdOf("\r\nMessage-ID: <2@a>"), "<2@a>");
    assert.equal(await messageIdOf("<>"), null);
  });
});
