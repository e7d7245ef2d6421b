/** What is a file of a message, what belongs to the letter, and what files are called. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ParsedMessage } from "../shared/contract/received.ts";
import { parseMessage } from "../shared/mail/mime/message.ts";

const parse = (raw: string) => parseMessage(Buffer.from(raw), { maxAttachmentBytes: 1_000_000 });
const lines = (...all: string[]) => all.join("\r\n");
const LETTER = ["Content-Type: text/plain", "", "the letter"];
const mixed = (...parts: string[][]) =>
  lines("Content-Type: multipart/mixed; boundary=b", "", ...parts.flatMap((part) => ["--b", ...part]), "--b--", "");
const text = (content: Uint8Array | null) => Buffer.from(content ?? []).toString();
const files = ({ attachments }: ParsedMessage) => attachments.map(({ filename, content }) => [filename, text(content)]);

describe("A part is a file", () => {
  const parts: [string, string[], string | null][] = [
    [
      "a named text beside the letter",
      ["Content-Type: text/plain; name=notes.txt", "Content-Disposition: inline"],
      "notes.txt",
    ],
    [
      "named HTML beside the letter",
      ["Content-Type: text/html", "Content-Disposition: inline; filename=page.html"],
      "page.html",
    ],
    [
      "a text that is an attachment without a name",
      ["Content-Type: text/plain", "Content-Disposition: attachment"],
      null,
    ],
    ["without a type, but a name", ['Content-Disposition: inline; filename="a.bin"'], "a.bin"],
    ["of a type that cannot be read, but with a name", ["Content-Type: name=a.bin"], "a.bin"],
    [
      "when the disposition is misspelt",
      ["Content-Type: text/plain", "Content-Disposition: attachement; filename=a.txt"],
      "a.txt",
    ],
    [
      "when a semicolon is missing",
      ["Content-Type: text/plain", "Content-Disposition: attachment filename=a.txt"],
      "a.txt",
    ],
    [
      "when the disposition is unknown",
      ["Content-Type: text/plain", "Content-Disposition: form-data; name=a.txt"],
      "a.txt",
    ],
    ["in a type of octets", ["Content-Type: application/octet-stream"], null],
    ["in a format of programs", ["Content-Type: text/csv"], null],
  ];
  for (const [what, head, name] of parts)
    test(`${what}: ${head.join(" | ")}`, async () => {
      const parsed = await parse(mixed(LETTER, [...head, "", "file"]));
      assert.deepEqual([parsed.text, parsed.html], ["the letter", null]);
      assert.deepEqual(files(parsed), [[name, "file"]]);
    });

  test("but no text that comes alone, or first under a name of its own type only", async () => {
    const alone = await parse(
      lines('Content-Type: text/plain; name="a.txt"', "Content-Disposition: inline; filename=a.txt", "", "hi"),
    );
    assert.deepEqual([alone.text, alone.attachments], ["hi", []]);
    const first = await parse(
      mixed(["Content-Type: text/plain; name=letter.txt", "", "hi"], ["Content-Type: text/plain", "", "footer"]),
    );
    assert.deepEqual([first.text, first.attachments], ["hi\nfooter", []]);
  });

  test("but no alternative of the letter, whatever its name; pictures of HTML are files with their place", async () => {
    const html = ["Content-Type: text/html; name=body.htm", "", "<b>the letter</b>"];
    const image = [
      "Content-Type: image/png",
      "Content-ID: <i@x>",
      "Content-Location: http://a.example/\r\n i.png",
      "",
      "PNG",
    ];
    const related = ["Content-Type: multipart/related; boundary=r", "", "--r", ...html, "--r", ...image, "--r--"];
    const raw = lines(
      "Content-Type: multipart/alternative; boundary=b",
      "",
      "--b",
      ...LETTER,
      "--b",
      ...related,
      "--b--",
    );
    const parsed = await parse(raw);
    assert.deepEqual([parsed.text, parsed.html], ["the letter", "<b>the letter</b>"]);
    const [file] = parsed.attachments;
    assert.deepEqual(
      [file?.contentId, file?.contentLocation, file?.disposition],
      ["i@x", "http://a.example/i.png", null],
    );
  });

  test("but no text whose disposition is a word without meaning", async () => {
    const parsed = await parse(lines("Content-Type: text/html", "Content-Disposition: =?utf-8?Q?x?=", "", "<p>hi"));
    assert.deepEqual([parsed.html, parsed.attachments], ["<p>hi", []]);
  });

  test("when other parts refer to it, though it is text; the start of related parts is the letter", async () => {
    const frame = ["Content-Type: text/html", "Content-ID: <frame>", "", "<p>frame"];
    const start = ["Content-Type: text/html", "Content-ID: <start>", "", "<p>start"];
    const raw = lines(
      'Content-Type: multipart/related; boundary=b; start="<start>"',
      "",
      "--b",
      ...frame,
      "--b",
      ...start,
      "--b--",
    );
    const parsed = await parse(raw);
    assert.deepEqual([parsed.html, files(parsed)], ["<p>start", [[null, "<p>frame"]]]);
  });

  test("in uuencode, as a part or in the middle of a text", async () => {
    const encoded = ["begin 644 a b.txt", "#86)C", "`", "end"];
    const inText = await parse(lines("Content-Type: text/plain", "", "before", ...encoded, "after", ""));
    assert.deepEqual([inText.text, files(inText)], ["before\nafter\n", [["a b.txt", "abc"]]]);
    for (const encoding of ["x-uuencode", "uuencode", "X-UUE"]) {
      const part = ["Content-Type: application/x-y", `Content-Transfer-Encoding: ${encoding}`, "", ...encoded];
      assert.deepEqual(files(await parse(mixed(LETTER, part))), [["a b.txt", "abc"]]);
    }
    const nameless = await parse(lines("", "begin 644", "#86)C", "end"));
    assert.deepEqual([nameless.text, files(nameless)], [null, [[null, "abc"]]]);
    const cut = lines("Content-Type: text/plain", "", "begin 644 a.txt", "#86)C");
    assert.match((await parse(cut)).text ?? "", /^begin 644 a\.txt\n#86\)C$/);
    assert.match((await parse(lines("", "begin 644 times, they said", "and end"))).text ?? "", /^begin 644 times/);
  });

  test("in base64 that bears no encoding, where its first bytes show it", async () => {
    const pdf = "%PDF-1.4 and more of it..";
    const part = ["Content-Type: application/pdf; name=a.pdf", "", Buffer.from(pdf).toString("base64")];
    assert.deepEqual(files(await parse(mixed(LETTER, part))), [["a.pdf", pdf]]);
    const key = ["Content-Type: application/x-key; name=k", "", "c2VjcmV0IGtleSE="];
    assert.deepEqual(files(await parse(mixed(LETTER, key))), [["k", "c2VjcmV0IGtleSE="]]);
  });
});

describe("A file is called", () => {
  const names: [string, string | null][] = [
    ['filename="Grüße.pdf"', "Grüße.pdf"],
    ["filename=Grüße aus Köln.pdf; size=3", "Grüße aus Köln.pdf"],
    ['filename="a; b.pdf"; size=3', "a; b.pdf"],
    ['filename="my "best" one.pdf"; size=3', 'my "best" one.pdf'],
    ['filename="say \\"hi\\".txt"', 'say "hi".txt'],
    ['filename="never closed.pdf', "never closed.pdf"],
    ["filename='a.pdf'", "a.pdf"],
    ['filename = "a.pdf"', "a.pdf"],
    ['FILENAME="a.pdf"', "a.pdf"],
    ['filename="C:\\Users\\ann\\a.pdf"', "a.pdf"],
    ['filename="C:\\\\Users\\\\ann\\\\a.pdf"', "a.pdf"],
    ['filename="/home/ann/../a.pdf"', "a.pdf"],
    ['filename="..\\..\\a.pdf"', "a.pdf"],
    ['filename="folder/"', "folder"],
    ['filename=".."', null],
    ['filename="a\u0007b\tc.pdf"', "a b c.pdf"],
    ['filename="=?utf-8?B?R3LDvMOfZS5wZGY=?="', "Grüße.pdf"],
    ["filename==?utf-8?Q?Gr=C3=BC=C3=9Fe_1.pdf?=", "Grüße 1.pdf"],
    ['filename="=?utf-8?B?R3LD?= =?utf-8?B?vMOfZS5wZGY=?="', "Grüße.pdf"],
    ['filename="=?utf-8?B?R3LD?=\r\n =?utf-8?B?vMOfZS5wZGY=?="', "Grüße.pdf"],
    ["filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf", "Grüße.pdf"],
    ["filename*=iso-8859-1'de'Gr%FC%DFe.pdf; filename=fallback.pdf", "Grüße.pdf"],
    ["filename*=\"utf-8''Gr%C3%BC%C3%9Fe.pdf\"", "Grüße.pdf"],
    ["filename*=Gr%C3%BC%C3%9Fe.pdf", "Grüße.pdf"],
    ["filename*0*=utf-8''Gr%C3; filename*1*=%BC%C3%9Fe; filename*2=\".pdf\"", "Grüße.pdf"],
    ['filename*1="e.pdf"; filename*0="Grüß"', "Grüße.pdf"],
    ['filename*0="=?utf-8?Q?Gr=C3"; filename*1="=BC=C3=9Fe.pdf?="', "Grüße.pdf"],
    ['filename="Gr%C3%BC%C3%9Fe%201.pdf"', "Grüße 1.pdf"],
    ['filename="100%25 sure.pdf"', "100%25 sure.pdf"],
    ['filename="50%.pdf"', "50%.pdf"],
    ['filename=""', "by-type.pdf"],
    ["", "by-type.pdf"],
  ];
  for (const [parameter, expected] of names)
    test(`${expected} by ${parameter}`, async () => {
      const type = expected === "by-type.pdf" ? "application/pdf; name=by-type.pdf" : "application/pdf";
      const head = [`Content-Type: ${type}`, `Content-Disposition: attachment; ${parameter}`];
      const { attachments } = await parse(mixed(LETTER, [...head, "", "x"]));
      assert.deepEqual(
        attachments.map(({ filename, disposition }) => [filename, disposition]),
        [[expected, "attachment"]],
      );
    });
});
