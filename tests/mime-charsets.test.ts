/** Letters in every charset, with right labels, wrong ones and none: the bytes decide, and Bun and Node read the same. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import iconv from "iconv-lite";
import { parseMessage } from "../shared/mail/mime/message.ts";

const limits = { maxAttachmentBytes: 1_000_000 };
const RUSSIAN = "Счёт оплачен полностью";
const GERMAN = "Grüße aus Köln";

/** A message whose header and body are put together from texts (UTF-8) and bytes. */
const parse = (...pieces: (string | Buffer)[]) =>
  parseMessage(Buffer.concat(pieces.map((piece) => Buffer.from(piece as string))), limits);
const inBody = async (type: string, body: Buffer) => (await parse(`Content-Type: ${type}\r\n\r\n`, body)).text;
const bytes = (...all: (number | string)[]) =>
  Buffer.concat(all.map((one) => (typeof one === "string" ? Buffer.from(one, "latin1") : Buffer.of(one))));

describe("A label", () => {
  const labels: [string, string, string][] = [
    ...[
      "win-1251",
      "windows1251",
      "CP-1251",
      "x-cp1251",
      "1251",
      "WINDOWS-1251 ",
      "'windows-1251'",
      "charset=windows-1251",
    ].map((label): [string, string, string] => [label, "windows-1251", RUSSIAN]),
    ...["ibm866", "cp866", "dos-866", "CP00866"].map((label): [string, string, string] => [label, "cp866", RUSSIAN]),
    ...["koi8-r", "KOI8_R", "koi8", "cp20866"].map((label): [string, string, string] => [label, "koi8-r", RUSSIAN]),
    ...["x-mac-cyrillic", "MacCyrillic"].map((label): [string, string, string] => [label, "maccyrillic", RUSSIAN]),
    ...["cp850", "IBM850", "dos-850", "850"].map((label): [string, string, string] => [label, "cp850", GERMAN]),
    ...["cp437", "iso-8859-1", "ISO_8859-1:1987", "latin1", "iso8859-15", "macintosh", "x-mac-roman"].map(
      (label): [string, string, string] => [
        label,
        /mac/.test(label) ? "macroman" : /437/.test(label) ? "cp437" : "latin1",
        GERMAN,
      ],
    ),
    ["cp852", "cp852", "Příliš žluťoučký"],
    ["x-mac-ce", "maccenteuro", "Příliš žluťoučký"],
    ["cp857", "cp857", "Günaydın"],
    ["tis-620", "tis620", "สวัสดี"],
    ["viscii", "viscii", "Việt Nam"],
    ["armscii-8", "armscii8", "Բարեւ"],
    ["gb2312", "gbk", "你好世界"],
    ["x-gbk", "gbk", "你好世界"],
    ["big5-hkscs", "big5", "你好世界"],
    ["shift-jis", "shiftjis", "こんにちは世界"],
    ["cp932", "shiftjis", "こんにちは世界"],
    ["x-euc-jp", "eucjp", "こんにちは世界"],
    ["ks_c_5601-1987", "euckr", "안녕하세요"],
    ["windows-949", "cp949", "똠방각하"],
    ["utf-7", "utf7", GERMAN],
    ["unicode-1-1-utf-7", "utf7", GERMAN],
    ["utf-16", "utf16le", GERMAN],
    ["utf-16be", "utf16be", GERMAN],
    ["utf-32", "utf32le", GERMAN],
    ["utf8mb4", "utf8", GERMAN],
    ["3Dutf-8", "utf8", GERMAN],
    ["utf-8;", "utf8", GERMAN],
    ["cp65001", "utf8", GERMAN],
  ];
  for (const [label, set, text] of labels)
    test(`${JSON.stringify(label)} is known`, async () => {
      const raw = iconv.encode(text, set, { addBOM: false });
      assert.equal(await inBody(`text/plain; charset="${label}"`, raw), text);
    });

  test("of a set in seven bits is read with its escape sequences", async () => {
    const japanese = bytes(0x1b, "$B", "$3$s$K$A$O", 0x1b, "(B end ", 0x1b, "(I", "\x36\x45", 0x1b, "(J");
    assert.equal(await inBody("text/plain; charset=iso-2022-jp", japanese), "こんにちは end ｶﾅ");
    const korean = bytes(0x1b, "$)C", 0x0e, "0!3*", 0x0f, " end");
    assert.equal(await inBody("text/plain; charset=iso-2022-kr", korean), "가나 end");
    const chinese = bytes(0x1b, "$)A", 0x0e, "Dc:C", 0x0f, " end");
    assert.equal(await inBody("text/plain; charset=iso-2022-cn", chinese), "你好 end");
    assert.equal(await inBody("text/plain; charset=hz-gb-2312", bytes("~{Dc:C~} ~~ end")), "你好 ~ end");
    assert.equal((await parse("Subject: ", japanese, "\r\n\r\n")).subject, "こんにちは end ｶﾅ");
  });
});

describe("Bytes", () => {
  const utf8 = Buffer.from(RUSSIAN);
  test("that are UTF-8 are read so under labels that are unknown, missing, or written unasked", async () => {
    for (const label of [
      "no-such-set",
      "unknown-8bit",
      "us-ascii",
      "iso-8859-1",
      "windows-1252",
      "windows-1251",
      "gb2312",
      "utf-7",
      "iso-2022-jp",
    ])
      assert.equal(await inBody(`text/plain; charset=${label}`, utf8), RUSSIAN, label);
    assert.equal(await inBody("text/plain", utf8), RUSSIAN);
  });

  test("of another set are not read as UTF-8 because they could be", async () => {
    // In GBK these four bytes are a name, in UTF-8 two rare letters.
    assert.equal(await inBody("text/plain; charset=gbk", bytes(0xc1, 0xaa, 0xcd, 0xa8)), "联通");
    assert.equal(await inBody("text/plain; charset=koi8-r", bytes(0xc5, 0xa3)), "её");
  });

  test("that are mostly UTF-8 keep their letters around those that are broken", async () => {
    assert.equal(await inBody("text/plain", Buffer.concat([utf8, bytes(0xff, 0xfe)])), `${RUSSIAN}\uFFFD\uFFFD`);
    assert.equal(await inBody("text/plain; charset=utf-8", Buffer.concat([bytes(0x80), utf8])), `\uFFFD${RUSSIAN}`);
    const { subject } = await parse("Subject: ", utf8.subarray(0, -1), "\r\n\r\n");
    assert.equal(subject.slice(0, -1), RUSSIAN.slice(0, -1));
  });

  test("that are no UTF-8 are western, or in the set that the message uses elsewhere", async () => {
    const western = Buffer.from(GERMAN, "latin1");
    for (const label of ["utf-8", "us-ascii", "x-unknown", ""])
      assert.equal(await inBody(`text/plain; charset=${label}`, western), GERMAN);
    const russian = iconv.encode(RUSSIAN, "koi8-r");
    const head = ["Subject: ", russian, "\r\nFrom: ", russian, " <a@b.example>\r\n"];
    const type =
      "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=koi8-r\r\n\r\n";
    const file = ['\r\n--b\r\nContent-Type: image/png; name="', russian, '"\r\n\r\n--b--'];
    const { subject, from, text, attachments } = await parse(...head, type, russian, ...file);
    assert.deepEqual([subject, from?.name, text, attachments[0]?.filename], [RUSSIAN, RUSSIAN, RUSSIAN, RUSSIAN]);
    const word = await parse("Subject: =?koi8-r?B?9MXT1A==?=\r\n\r\n", russian);
    assert.deepEqual([word.subject, word.text], ["Тест", RUSSIAN]);
  });

  test("of HTML are read by its meta element where the header names no set", async () => {
    const russian = iconv.encode(RUSSIAN, "windows-1251");
    for (const meta of [
      '<meta charset="windows-1251">',
      "<META http-equiv=Content-Type content='text/html; charset=windows-1251'>",
      '<?xml version="1.0" encoding="windows-1251"?>',
    ]) {
      for (const type of ["text/html", "text/html; charset=us-ascii", "text/html; charset=unknown"]) {
        const { html } = await parse(`Content-Type: ${type}\r\n\r\n${meta}<p>`, russian);
        assert.equal(html, `${meta}<p>${RUSSIAN}`, `${meta} ${type}`);
      }
      assert.equal((await parse(`Content-Type: text/html\r\n\r\n${meta}<p>`, utf8)).html, `${meta}<p>${RUSSIAN}`);
    }
  });

  test("of UTF-16 are read with a mark, or by their blanks, and single bytes under its name as what they are", async () => {
    for (const set of ["utf16le", "utf16be"]) {
      const raw = iconv.encode(GERMAN, set);
      assert.equal(await inBody("text/plain; charset=utf-16", raw), GERMAN);
      assert.equal(await inBody("text/plain", iconv.encode(GERMAN, set, { addBOM: true })), GERMAN);
    }
    assert.equal(await inBody("text/plain; charset=utf-16", Buffer.from(GERMAN)), GERMAN);
  });
});

const subjectOf = async (value: string) => (await parse(`Subject: ${value}\r\n\r\n`)).subject;

describe("An encoded word", () => {
  const words: [string, string][] = [
    ["=?utf-8?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"],
    ["=?UTF-8*de?q?Gr=C3=BC=C3=9Fe?=", "Grüße"],
    ["=?utf-8?Q?Gr=C3?= =?utf-8?Q?=BC=C3=9Fe?=", "Grüße"],
    ["=?utf-8?B?R3LD?=\r\n =?UTF-8?B?vMOfZQ==?=", "Grüße"],
    ["=?utf-8?B?R3LDv?= =?utf-8?B?MOfZQ==?=", "Grüße"],
    ["=?utf-8?B?R3LDvMOfZQ?= =?utf-8?Q?!?=", "Grüße!"],
    ["=?utf-8?Q?Gr=C3=BC=C3=9Fe?= =?iso-8859-1?Q?_K=F6ln?=", "Grüße Köln"],
    ["=?utf-8?Q?Gr=C3=BC=C3=9Fe?==?utf-8?Q?_Bob?=", "Grüße Bob"],
    ["a=?utf-8?Q?=C3=BC?=b", "aüb"],
    ["=?utf-8?Q?two words, 1?= and text", "two words, 1 and text"],
    ["=?utf-8?Q?why?really?=", "why?really"],
    ["=?utf-8?B?R3LD vMOf ZQ==?=", "Grüße"],
    ["=?no-such-set?Q?Gr=C3=BC=C3=9Fe?=", "Grüße"],
    ["=?no-such-set?Q?Gr=FC=DFe?=", "Grüße"],
    ["=??Q?Gr=C3=BC=C3=9Fe?=", "Grüße"],
    ["=?utf-8?Q?Gr=C3=BC=C3=9Fe", "Grüße"],
    ["=?utf-8?B?R3LDvMOfZQ=", "Grüße"],
    ["=?utf-8?Q?Gr=C3=BC=C3=9Fe =?utf-8?Q?_Bob?=", "Grüße Bob"],
    ["=?utf-8?X?abc?=", "=?utf-8?X?abc?="],
    ["=?utf-8?Q?=ZZ=4?=", "=ZZ=4"],
    ["=?utf-7?Q?Gr+APwA3w-e?=", "Grüße"],
    ["=?iso-2022-jp?B?GyRCJDMkcxsoQg==?=", "こん"],
    ["=?gb2312?B?xOO6ww==?=", "你好"],
    ["a =?b", "a =?b"],
  ];
  for (const [value, expected] of words)
    test(`${JSON.stringify(value)} is read as ${expected}`, async () => assert.equal(await subjectOf(value), expected));

  test("with raw bytes in it is read in its own charset", async () => {
    assert.equal((await parse("Subject: =?iso-8859-1?Q?Gr", bytes(0xfc, 0xdf), "e?=\r\n\r\n")).subject, "Grüße");
    assert.equal((await parse("Subject: =?utf-8?Q?Gr", Buffer.from("üß"), "e?= Köln\r\n\r\n")).subject, "Grüße Köln");
  });
});
