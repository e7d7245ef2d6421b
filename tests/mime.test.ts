import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { headLines, joined, leaf, message, multipart } from "./servers/mail.ts";
import { oddMessages } from "./servers/odd-mail.ts";

const limits = { maxAttachmentBytes: 26_214_400 };
const parse = (raw: Uint8Array | string) => parseMessage(typeof raw === "string" ? Buffer.from(raw) : raw, limits);

function named(parameter: string): string[] {
  return leaf("application/pdf", "x", [`Content-Disposition: attachment; ${parameter}`]);
}

describe("A well-formed message", () => {
  test("comes with its text, HTML, attachments and inline images, byte for byte", async () => {
    const pdf = Buffer.from(Array.from({ length: 5000 }, (_, index) => (index * 7) & 255));
    const raw = message({
      subject: "Ünïcödé",
      text: "plain ✓\r\n",
      html: "<p>rich ✓</p>",
      attachments: [
        { filename: "a.pdf", type: "application/pdf", content: pdf },
        { filename: "logo.png", type: "image/png", content: "png", cid: "logo@x" },
      ],
    });
    const parsed = await parse(raw);
    assert.equal(parsed.subject, "Ünïcödé");
    assert.equal(parsed.text?.trim(), "plain ✓");
    assert.equal(parsed.html?.trim(), "<p>rich ✓</p>");
    assert.equal(parsed.limited, null);
    const [logo, file] = parsed.attachments;
    assert.deepEqual([logo?.contentId, logo?.disposition, logo?.filename], ["logo@x", "inline", "logo.png"]);
    assert.deepEqual(
      [file?.filename, file?.contentType, file?.size, file?.contentId],
      ["a.pdf", "application/pdf", 5000, null],
    );
    assert.deepEqual(Buffer.from(file?.content ?? []), pdf);
  });

  test("has no text when the sender wrote only HTML", async () => {
    const parsed = await parse(joined(headLines(), leaf("text/html", "<p>Hello</p>")));
    assert.equal(parsed.text, null);
    assert.match(parsed.html ?? "", /<p>Hello<\/p>/);
  });

  test("lacks nothing in either form when its pieces come in different ones", async () => {
    const parts = [leaf("text/plain", "The letter"), leaf("text/html", "<b>The footer</b>")];
    const parsed = await parse(joined(headLines(), multipart("mixed", parts)));
    for (const form of [parsed.text, parsed.html]) {
      assert.match(form ?? "", /The letter/);
      assert.match(form ?? "", /The footer/);
    }
  });

  test("keeps its header in order, unfolded and decoded", async () => {
    const head = "X-B: one\r\n two\r\nX-A: =?utf-8?Q?caf=C3=A9?=\r\nX-B: three\r\nSubject : odd\r\n";
    const parsed = await parse(`${head}\r\nbody`);
    assert.deepEqual(parsed.headers, [
      ["x-b", "one two"],
      ["x-a", "café"],
      ["x-b", "three"],
      ["subject", "odd"],
    ]);
    assert.equal(parsed.text?.trim(), "body");
  });

  test("has ids, references and parties taken apart, groups flattened", async () => {
    const parsed = await parse(
      "Message-ID: (c) <a@b>\r\nIn-Reply-To: <r@x> (Ann's of Monday)\r\nReferences: <1@x>\r\n <2@\r\n x><3@x>\r\n" +
        'From: "Ann, A." <ann@x.example>\r\nTo: Team: bob@x.example, C <c@x.example>;, d@x.example\r\nSender: s@x.example\r\n\r\n',
    );
    assert.equal(parsed.messageId, "<a@b>");
    assert.equal(parsed.inReplyTo, "<r@x>");
    assert.deepEqual(parsed.references, ["<1@x>", "<2@x>", "<3@x>"]);
    assert.deepEqual(parsed.from, { name: "Ann, A.", address: "ann@x.example" });
    assert.deepEqual(
      parsed.to.map((party) => party.address),
      ["bob@x.example", "c@x.example", "d@x.example"],
    );
    assert.equal(parsed.sender?.address, "s@x.example");
  });

  test("has its date in UTC, however it is written, or none", async () => {
    const dates: [string, string | null][] = [
      ["Mon, 5 Jan 2026 10:00:00 +0100", "2026-01-05T09:00:00.000Z"],
      ["5 Jan 2026 10:00 -0230 (NST)", "2026-01-05T12:30:00.000Z"],
      ["Mon,  5 Jan 26 09:00:00 GMT", "2026-01-05T09:00:00.000Z"],
      ["Monday, 05-Jan-2026 04:00:00 EST", "2026-01-05T09:00:00.000Z"],
      ["yesterday", null],
      ["5 Foo 2026 10:00:00 +0000", null],
    ];
    for (const [text, expected] of dates) assert.equal((await parse(`Date: ${text}\r\n\r\n`)).date, expected, text);
  });

  test("gives the file names of RFC 2231 and of encoded words", async () => {
    const parts = [
      named("filename*=utf-8''Gr%C3%BC%C3%9Fe.pdf"),
      named(`filename*0*=utf-8''Gr%C3%BC; filename*1*=%C3%9Fe; filename*2=".pdf"`),
      named('filename="=?utf-8?B?R3LDvMOfZS5wZGY=?="'),
    ];
    const parsed = await parse(joined(headLines(), multipart("mixed", parts)));
    assert.deepEqual(
      parsed.attachments.map((one) => one.filename),
      ["Grüße.pdf", "Grüße.pdf", "Grüße.pdf"],
    );
  });

  test("decodes base64 written in padded pieces and quoted-printable with soft breaks", async () => {
    const pieces = ["Content-Type: application/x-a", "Content-Transfer-Encoding: base64", "", "QQ==QUI=", "QUJD"];
    const quoted = ["Content-Type: text/plain", "Content-Transfer-Encoding: quoted-printable", "", "a=3Db=", "c=C3=A9"];
    const parsed = await parse(joined(headLines(), multipart("mixed", [quoted, pieces])));
    assert.equal(parsed.text, "a=bcé");
    assert.equal(Buffer.from(parsed.attachments[0]?.content ?? []).toString(), "AABABC");
  });

  test("decodes a large file whatever its lines, its padding and its pieces are", async () => {
    const head = ["Content-Type: application/x-a", "Content-Transfer-Encoding: base64", ""];
    const decode = async (text: string) => {
      const { attachments } = await parse(
        joined(
          headLines(),
          multipart("mixed", [
            ["", "Hello"],
            [...head, text],
          ]),
        ),
      );
      return Buffer.from(attachments[0]?.content ?? []);
    };
    for (const more of [0, 1, 2]) {
      const bytes = randomBytes(900_000 + more);
      const letters = bytes.toString("base64");
      for (const width of [76, 75, 997]) {
        const lines = letters.replaceAll(new RegExp(`.{${width}}`, "g"), "$&\r\n");
        assert.ok((await decode(lines)).equals(bytes));
        assert.ok((await decode(lines.replaceAll("=", ""))).equals(bytes));
      }
      const url = letters.replaceAll("+", "-").replaceAll("/", "_");
      assert.ok((await decode(`QQ==\r\nQUI=${url}`)).equals(Buffer.concat([Buffer.from("AAB"), bytes])));
    }
  });
});

describe("What a message is", () => {
  const signs: [string, string | null][] = [
    ["Auto-Submitted: auto-replied (vacation)", "auto-replied"],
    ["Auto-Submitted: auto-generated", "auto-generated"],
    ["Auto-Submitted: no", null],
    ["X-Autoreply: yes", "auto-replied"],
    ["Precedence: bulk", "bulk"],
    ["List-Id: <news.example>", "bulk"],
    ["Feedback-ID: 1:2:3", "bulk"],
    ["X-Auto-Response-Suppress: OOF, DR", "auto-generated"],
    ["X-Auto-Response-Suppress: DR, RN", null],
    ["Return-Path: <>", "auto-generated"],
    ["Return-Path: <ann@sender.example>", null],
  ];
  for (const [field, expected] of signs) {
    test(`is told by ${field}: ${expected ?? "written by a person"}`, async () => {
      assert.equal((await parse(`${field}\r\n\r\nHi`)).automatic, expected);
    });
  }

  test("is a bounce with the recipient, the reason and the original's id", async () => {
    const parsed = await parse(oddMessages.bounce());
    const reported = {
      action: "failed",
      status: "5.1.1",
      recipient: "nobody@sender.example",
      diagnostic: "550 5.1.1 User unknown",
      reason: "user_unknown",
    };
    const originalMessageId = "<original@receiver.example>";
    assert.deepEqual(parsed.bounce, { ...reported, originalMessageId, recipients: [reported] });
    assert.equal(parsed.automatic, "auto-replied");
  });

  test("is an invitation with method and uid", async () => {
    const { calendar } = await parse(oddMessages.calendarInvitation());
    assert.deepEqual([calendar?.method, calendar?.uid], ["REQUEST", "meeting-1@sender.example"]);
    assert.match(calendar?.content ?? "", /^BEGIN:VCALENDAR\n/);
  });

  test("is closed by S/MIME or PGP, and delivered as it is; signed alone is open", async () => {
    const body = (type: string) => parse(joined(headLines(), leaf(type, "opaque")));
    assert.equal(
      (await body('application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"')).encrypted,
      "smime",
    );
    const pgp = multipart("encrypted", [leaf("application/pgp-encrypted", "Version: 1"), leaf("application/x", "y")]);
    const parsed = await parse(joined(headLines(), pgp));
    assert.deepEqual([parsed.encrypted, parsed.attachments.length], ["pgp", 2]);
    const signed = multipart("signed", [leaf("text/plain", "open"), leaf("application/pkcs7-signature", "s")]);
    const open = await parse(joined(headLines(), signed));
    assert.deepEqual([open.encrypted, open.text], [null, "open"]);
  });

  test("may hold another message, which is a file named by its subject", async () => {
    const { attachments, text } = await parse(oddMessages.nestedMessage());
    assert.deepEqual([attachments[0]?.filename, attachments[0]?.contentType], ["The inner one.eml", "message/rfc822"]);
    assert.match(Buffer.from(attachments[0]?.content ?? []).toString(), /Subject: The inner one/);
    assert.doesNotMatch(text ?? "", /Inner text/);
  });
});
