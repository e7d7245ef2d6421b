/** The structure of messages that is not what it says: everything that can be read is read, and nothing is passed over without saying so. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { ParsedMessage } from "../shared/contract/received.ts";
import { parseMessage } from "../shared/mail/mime/message.ts";

const parse = (raw: string | Buffer) =>
  parseMessage(typeof raw === "string" ? Buffer.from(raw, "latin1") : raw, { maxAttachmentBytes: 1_000_000 });
const lines = (...all: string[]) => all.join("\r\n");
const files = ({ attachments }: ParsedMessage) =>
  attachments.map(({ filename, contentType, content }) => [filename, contentType, contentOf(content)]);
const contentOf = (content: Uint8Array | null) => Buffer.from(content ?? []).toString();

const TEXT = ["Content-Type: text/plain", "", "the letter"];
const FILE = ["Content-Type: application/zip", 'Content-Disposition: attachment; filename="x.zip"', "", "PK"];
const mixed = (declared: string, used: string, ...parts: string[][]) =>
  lines(
    `Content-Type: multipart/mixed${declared}`,
    "",
    ...parts.flatMap((part) => [`--${used}`, ...part]),
    `--${used}--`,
    "",
  );

describe("A header", () => {
  const after = ["Subject: Invoice 9", "Content-Type: text/html", "", "<i>due</i>"];
  const odd: [string, string[]][] = [
    ["a line of a scanner", ["From: a@b.example", "checked on host 7", ...after]],
    ["an address list that goes on without white space", ["To: a@b.example,", "c@d.example", ...after]],
    ["an mbox line in front", ["From a@b.example  Mon Jan  5 10:00:00 2026", ...after]],
    [
      "an mbox line behind the first field",
      ["Return-Path: <a@b.example>", ">From a@b.example Mon Jan  5 10:00:00 2026", ...after],
    ],
    ["an empty line in front", ["", "From: a@b.example", ...after]],
    ["several empty lines in front", ["", "", "", "From: a@b.example", ...after]],
    ["a byte order mark in front", ["\u00EF\u00BB\u00BFFrom: a@b.example", ...after]],
    ["NUL bytes", ["From: a@b.example", "X-\0Y: \0z", ...after]],
    ["a white space line", ["From: a@b.example", "X-A: b", " ", ...after]],
    ["white space in front", [" From: a@b.example", ...after]],
    ["a name on a line of its own", ["From", " : a@b.example", ...after]],
    [
      "a parameter at the beginning of a line",
      ["Subject: Invoice 9", "Content-Type: text/html;", 'charset="utf-8"', "", "<i>due</i>"],
    ],
  ];
  for (const [what, message] of odd)
    test(`with ${what} is read to its end`, async () => {
      const { subject, html } = await parse(lines(...message));
      assert.deepEqual([subject, html], ["Invoice 9", "<i>due</i>"]);
    });

  test("says which lines it leaves out, and gives none of them to a field that it does not fit", async () => {
    const parsed = await parse(
      lines("From: Ann <a@b.example>", "seen by gate", "Date: Mon, 5 Jan 2026 10:00:00 +0000", "", "x"),
    );
    assert.deepEqual(parsed.from, { name: "Ann", address: "a@b.example" });
    assert.deepEqual(parsed.limited, ["lines of the header that are no fields left out"]);
  });

  test("takes a line that was folded without white space as part of a subject", async () => {
    const { subject, limited } = await parse(lines("Subject: a very long", "subject", "From: a@b.example", "", "x"));
    assert.deepEqual([subject.replace(/\s+/g, " "), limited], ["a very long subject", null]);
  });

  test("ends where a text begins, also without an empty line between", async () => {
    const { subject, text } = await parse(
      lines("Subject: hi", "Dear Bob,", "", "see https://a.example", "From: nobody"),
    );
    assert.deepEqual([subject, text?.split("\n")[0]], ["hi", "Dear Bob,"]);
    const link = await parse(lines("Subject: hi", "https://a.example/b", "", "bye"));
    assert.match(link.text ?? "", /^https:\/\/a\.example\/b\n/);
  });

  test("ends at a delimiter, also without an empty line between", async () => {
    for (const between of [[], [" "], ["This is MIME."]]) {
      const head = ["Subject: Invoice 9", "Content-Type: multipart/mixed; boundary=b", ...between];
      const parsed = await parse(lines(...head, "--b", ...TEXT, "--b", ...FILE, "--b--", ""));
      assert.deepEqual([parsed.subject, parsed.text, files(parsed).length], ["Invoice 9", "the letter", 1]);
    }
  });

  test("is read in lines that end in CR alone, in CR CR LF, or in any mix", async () => {
    for (const end of ["\r", "\r\r\n", "\n"]) {
      const raw = [
        "Subject: Invoice 9",
        "Content-Type: multipart/mixed; boundary=b",
        "",
        "--b",
        ...TEXT,
        "--b",
        ...FILE,
        "--b--",
        "",
      ];
      const parsed = await parse(raw.join(end));
      assert.equal(parsed.text, "the letter", JSON.stringify(end));
      assert.deepEqual(files(parsed), [["x.zip", "application/zip", "PK"]], JSON.stringify(end));
    }
    assert.equal((await parse("Subject: a\rX-B: c\r\rtext\nmore\n")).text, "text\nmore\n");
  });
});

describe("A multipart", () => {
  const boundaries: [string, string, string][] = [
    ["in pieces", "; boundary*0=one; boundary*1=two", "onetwo"],
    ["in pieces in any order", '; boundary*1="two"; boundary*0="one"', "onetwo"],
    ["encoded", "; boundary*=utf-8'en'a%3Db", "a=b"],
    ["encoded in pieces", "; boundary*0*=us-ascii''a%3D; boundary*1=b", "a=b"],
    ["with blanks at its end", '; boundary="b  "', "b"],
    ["without a semicolon in front", " boundary=b", "b"],
    ["in single quotes", "; boundary='b'", "b"],
    ["in a quote that is never closed", '; boundary="b', "b"],
    ["without quotes, with signs that need them", "; boundary==_b:1(2)?/", "=_b:1(2)?/"],
    ["of 400 characters", `; boundary="${"x".repeat(400)}"`, "x".repeat(400)],
    ["that is wrong", "; boundary=other", "b"],
    ["that differs in case", "; boundary=ABC", "abc"],
    ["that is empty", '; boundary=""', "b"],
    ["that is missing", "", "b"],
  ];
  for (const [what, declared, used] of boundaries)
    test(`with a boundary ${what} has its letter and its file`, async () => {
      const parsed = await parse(mixed(declared, used, TEXT, FILE));
      assert.equal(parsed.text, "the letter");
      assert.deepEqual(files(parsed), [["x.zip", "application/zip", "PK"]]);
    });

  const endings: [string, string][] = [
    ["no last delimiter", lines("--b", ...TEXT, "--b", ...FILE)],
    ["blanks behind its delimiters", lines("--b \t", ...TEXT, "--b  ", ...FILE, "--b-- ", "")],
    ["no first delimiter", lines(...TEXT, "--b", ...FILE, "--b--", "")],
    ["its last delimiter too early", lines("--b", ...TEXT, "--b--", "--b", ...FILE, "--b--", "")],
    ["an empty line in front of a part's header", lines("--b", "", ...TEXT, "--b", "", ...FILE, "--b--", "")],
    ["words behind its delimiters", lines("--b here", ...TEXT, "--b (next)", ...FILE, "--b-- the end", "")],
    ["a text in front", lines("This is MIME.", "--b", ...TEXT, "--b", ...FILE, "--b--", "")],
  ];
  for (const [what, body] of endings)
    test(`with ${what} has its letter and its file`, async () => {
      const parsed = await parse(lines("Content-Type: multipart/mixed; boundary=b", "", body));
      assert.equal(parsed.text?.trim(), "the letter");
      assert.deepEqual(files(parsed), [["x.zip", "application/zip", "PK"]]);
    });

  test("in base64 or quoted-printable as a whole is read, whatever is in it", async () => {
    const inner = lines("--b=1", ...TEXT, "--b=1", ...FILE, "--b=1--", "");
    const encoded = { base64: Buffer.from(inner).toString("base64"), "quoted-printable": inner.replaceAll("=", "=3D") };
    for (const [encoding, body] of Object.entries(encoded)) {
      const parsed = await parse(
        lines('Content-Type: multipart/mixed; boundary="b=1"', `Content-Transfer-Encoding: ${encoding}`, "", body),
      );
      assert.equal(parsed.text, "the letter", encoding);
      assert.deepEqual(files(parsed), [["x.zip", "application/zip", "PK"]], encoding);
    }
  });

  test("within another is read, also where both have the same boundary or the inner one a wrong one", async () => {
    for (const declared of ["b", "c"]) {
      const inner = lines(`Content-Type: multipart/alternative; boundary=${declared}`, "", "--b", ...TEXT, "--b--");
      const { text } = await parse(
        lines("Content-Type: multipart/mixed; boundary=b", "", "--b", inner, "--b", ...FILE, "--b--"),
      );
      assert.match(text ?? "", /the letter/, declared);
    }
  });

  test("whose header runs into that of its first part has the part", async () => {
    const inner = [
      "Content-Type: multipart/alternative; boundary=c",
      ...TEXT,
      "--c",
      "Content-Type: text/html",
      "",
      "<p>",
      "--c--",
    ];
    const parsed = await parse(mixed("; boundary=b", "b", inner, FILE));
    assert.deepEqual([parsed.text, parsed.html, files(parsed).length], ["the letter", "<p>", 1]);
  });

  test("without any part is given as text, and says so", async () => {
    for (const type of ["multipart/mixed; boundary=b", "multipart/mixed", "multipart/alternative; boundary=b"]) {
      const { text, limited } = await parse(lines(`Content-Type: ${type}`, "", "Only this is here."));
      assert.equal(text, "Only this is here.", type);
      assert.match(limited?.join() ?? "", /parts cannot be found/);
    }
  });

  test("whose parts are empty has an empty text, or what stands outside of them", async () => {
    const empty = lines("Content-Type: multipart/mixed; boundary=b", "", "--b", "", "", "--b--", "");
    assert.deepEqual([(await parse(empty)).text, (await parse(empty)).limited], ["", null]);
    const { text, limited } = await parse(`${empty}\r\nread me`);
    assert.deepEqual([text, limited?.length], ["read me", 1]);
    const usual = empty.replace("\r\n\r\n--b", "\r\n\r\nThis is a multi-part message in MIME format.\r\n--b");
    assert.deepEqual([(await parse(usual)).text, (await parse(usual)).limited], ["", null]);
  });

  test("nested too deep, or with too many parts, is kept as an attachment, and says so", async () => {
    const nest = (level: number): string[] =>
      level === 0 ? TEXT : [`Content-Type: multipart/mixed; boundary=b${level}`, "", `--b${level}`, ...nest(level - 1)];
    const deep = await parse(lines(...nest(60)));
    assert.match(deep.limited?.join() ?? "", /nested deeper than 50 levels kept as one attachment/);
    assert.match(contentOf(deep.attachments[0]?.content ?? null), /the letter/);
    const many = await parse(mixed("; boundary=b", "b", ...Array.from({ length: 1100 }, () => TEXT)));
    assert.match(contentOf(many.attachments[0]?.content ?? null), /the letter/);
  });
});

describe("A content type", () => {
  const types: [string, string, string | null][] = [
    ["text/html charset=utf-8", "html", "<b>hi</b>"],
    ["text/html;;charset=utf-8", "html", "<b>hi</b>"],
    ["text / html", "html", "<b>hi</b>"],
    ['"text/html"', "html", "<b>hi</b>"],
    ["text\\html", "html", "<b>hi</b>"],
    ["TEXT/HTML; charset", "html", "<b>hi</b>"],
    ["html", "html", "<b>hi</b>"],
    ["text", "text", "<b>hi</b>"],
    ["text/", "text", "<b>hi</b>"],
    ["", "text", "<b>hi</b>"],
    ["charset=utf-8", "text", "<b>hi</b>"],
    ["text/x-unheard-of", "text", "<b>hi</b>"],
    ["text/enriched", "text", "<b>hi</b>"],
    ["(a comment) text/html (another); charset=utf-8", "html", "<b>hi</b>"],
  ];
  for (const [type, form, expected] of types)
    test(`written as ${JSON.stringify(type)} gives ${form}`, async () => {
      const parsed = await parse(lines(`Content-Type: ${type}`, "", "<b>hi</b>"));
      assert.deepEqual([parsed.html ?? parsed.text, parsed[form as "text"]], [expected, expected]);
    });

  test("of the first of several fields counts", async () => {
    assert.equal((await parse(lines("Content-Type: text/html", "Content-Type: text/plain", "", "<p>"))).html, "<p>");
  });
});

describe("A transfer encoding", () => {
  const content = "Order 4711: two chairs, gr\u00FC\u00DFe";
  const encoded = Buffer.from(content).toString("base64");
  const quoted = "Order 4711: two chairs, gr=C3=BC=\r\n=C3=9Fe";
  const encodings: [string, string][] = [
    ["base64", encoded],
    ["BASE-64", encoded],
    ['"base64"', encoded],
    ["base64; charset=x", encoded],
    ["bsae64", encoded],
    ["b64", encoded],
    ["quoted-printable", quoted],
    ["quoted printable", quoted],
    ["Quoted_Printable (by hand)", quoted],
    ["qouted-printable", quoted],
    ["8bit", content],
    ["8-bit", content],
    ["utf-8", content],
    ["base64", content],
  ];
  for (const [encoding, body] of encodings)
    test(`named ${JSON.stringify(encoding)} over ${body.slice(0, 12)} is read`, async () => {
      const raw = lines("Content-Type: text/plain; charset=utf-8", `Content-Transfer-Encoding: ${encoding}`, "", body);
      assert.equal((await parse(Buffer.from(raw))).text, content);
    });

  test("of base64 passes over what does not belong to it, and gives the footer of a list", async () => {
    const head = ["Content-Type: text/plain", "Content-Transfer-Encoding: base64", ""];
    const base64 = Buffer.from("A letter of more than a few words.").toString("base64");
    const junk = lines(...head, `${base64.slice(0, 20)}\0!`, ` ${base64.slice(20)}`);
    assert.equal((await parse(junk)).text, "A letter of more than a few words.");
    assert.equal(
      (await parse(lines(...head, "aGVsbG8=", "", "-- ", "List of people who like it"))).text,
      "hello\n-- \nList of people who like it",
    );
  });

  test("of quoted-printable is read with blanks and line ends of any kind behind its soft breaks", async () => {
    const head = ["Content-Type: text/plain", "Content-Transfer-Encoding: quoted-printable", ""];
    const text = (await parse(`${lines(...head, "")}a=\r\r\nb= \t\r\nc=\nd=3De=3de=XY=`)).text;
    assert.equal(text, "abcd=e=e=XY");
    assert.equal((await parse(`${lines(...head, "")}a==\r\n3Db=3=\nDc`)).text, "a=b=c");
  });
});

describe("A message within a message", () => {
  test("is a file named by its subject, in any encoding", async () => {
    const inner = lines("Subject: =?utf-8?Q?Re=3A_Caf=C3=A9?=", "", "inside");
    for (const [type, encoding, body] of [
      ["message/rfc822", "7bit", inner],
      ["message/rfc822", "base64", Buffer.from(inner).toString("base64")],
      ["message/global", "8bit", inner],
    ]) {
      const part = [`Content-Type: ${type}`, `Content-Transfer-Encoding: ${encoding}`, "", body ?? ""];
      const parsed = await parse(mixed("; boundary=b", "b", TEXT, part));
      assert.deepEqual(files(parsed), [["Re Café.eml", type, inner]]);
    }
  });

  test("is a file in a digest without saying so, and a part of one as well", async () => {
    const digest = lines(
      "Content-Type: multipart/digest; boundary=d",
      "",
      "--d",
      "",
      "Subject: one",
      "",
      "1",
      "--d--",
      "",
    );
    assert.deepEqual(files(await parse(digest)), [["one.eml", "message/rfc822", lines("Subject: one", "", "1")]]);
    const partial = await parse(lines('Content-Type: message/partial; id="x"; number=2', "", "half a letter"));
    assert.equal(contentOf(partial.attachments[0]?.content ?? null), "half a letter");
  });
});
