/** Letters in wrappers: signed, compressed or encrypted by S/MIME, by PGP, and winmail.dat. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { parseMessage } from "../shared/mail/mime/message.ts";
import {
  attribute,
  certificateByOpenssl,
  compressedEntity,
  encryptedByOpenssl,
  ID,
  pieces,
  properties,
  signedByOpenssl,
  signedData,
  signedEntity,
  storedRtf,
  tnef,
  tnefFile,
} from "./letters/wrapped.ts";

const limits = { maxAttachmentBytes: 5_000_000 };
const header = ["From: Jane <jane@example.com>", "Subject: Order 4711", "MIME-Version: 1.0"];
const parseLines = (...lines: string[]) => parseMessage(Buffer.from([...header, ...lines].join("\r\n")), limits);
const encoded = (type: string, bytes: Buffer, more: string[] = []) => [
  `Content-Type: ${type}`,
  "Content-Transfer-Encoding: base64",
  ...more,
  "",
  bytes.toString("base64").replace(/.{76}/g, "$&\r\n"),
];
const mixed = (...leaves: string[][]) => [
  "Content-Type: multipart/mixed; boundary=b",
  "",
  ...leaves.flatMap((leaf) => ["--b", ...leaf]),
  "--b--",
];
const smime = (bytes: Buffer, type = "signed-data") =>
  parseLines(...encoded(`application/pkcs7-mime; smime-type=${type}; name=smime.p7m`, bytes));
const plain = ["Content-Type: text/plain", "", "Hello"];
const ENTITY = "Content-Type: text/plain; charset=utf-8\r\n\r\nGrüße\r\n";

const inside = (bytes: Buffer) => encoded("application/pkcs7-mime; name=smime.p7m", bytes).join("\r\n");
const beside = (protocol: string, type: string) =>
  parseLines(
    `Content-Type: multipart/signed${protocol}; boundary=b`,
    "",
    "--b",
    ...plain,
    "--b",
    `Content-Type: ${type}`,
    "",
    "x",
    "--b--",
  );
const armor = (kind: string, data: string, lines: string[] = []) => [
  `-----BEGIN PGP ${kind}-----`,
  ...lines,
  "",
  data,
  "=AbCd",
  `-----END PGP ${kind}-----`,
];
const winmail = (bytes: Buffer, type = "application/ms-tnef; name=winmail.dat") => encoded(type, bytes);
const body = (...list: Parameters<typeof properties>) => attribute(1, ID.messageProperties, properties(...list));

describe("A letter signed by S/MIME", () => {
  test("is opened: its text and its files are those of the letter", async () => {
    const { text, attachments, signed, encrypted, limited } = await smime(Buffer.from(signedByOpenssl, "base64"));
    assert.deepEqual([text?.trim(), signed, encrypted, limited], ["Signed by OpenSSL.", "smime", null, null]);
    assert.deepEqual(
      attachments.map(({ filename }) => filename),
      ["a.csv"],
    );
  });

  test("is opened whatever the label says, under other names of the type, and in base64 between dashes", async () => {
    const pem = Buffer.from(`-----BEGIN PKCS7-----\n${signedEntity(ENTITY).toString("base64")}\n-----END PKCS7-----\n`);
    const letters = [
      parseLines(...encoded("application/pkcs7-mime; smime-type=enveloped-data", signedEntity(ENTITY))),
      parseLines(...encoded("application/x-pkcs7-mime", signedEntity(ENTITY))),
      parseLines(...encoded('application/octet-stream; name="smime.p7m"', signedEntity(ENTITY))),
      parseLines(...encoded("application/pkcs7-mime", pem)),
      parseLines(
        ...encoded(
          "application/pkcs7-mime",
          signedData(
            pieces(
              ...ENTITY.split(/(?<=: )/).map((one) =>
                Buffer.concat([Buffer.from([4, Buffer.byteLength(one)]), Buffer.from(one)]),
              ),
            ),
          ),
        ),
      ),
    ];
    for (const { text, signed, encrypted } of await Promise.all(letters))
      assert.deepEqual([text?.trim(), signed, encrypted], ["Grüße", "smime", null]);
  });

  test("is opened beside the footer of a list; a signed file is a file", async () => {
    const list = await parseLines(
      ...mixed(encoded("application/pkcs7-mime; name=smime.p7m", signedEntity(ENTITY)), [
        "Content-Type: text/plain",
        "",
        "-- the list",
      ]),
    );
    assert.deepEqual([list.signed, list.attachments.length], ["smime", 0]);
    assert.match(list.text ?? "", /Grüße[^]*-- the list/);
    const contract = encoded("application/pkcs7-mime; name=contract.pdf.p7m", signedEntity("%PDF-1.7"), [
      "Content-Disposition: attachment; filename=contract.pdf.p7m",
    ]);
    const file = await parseLines(...mixed(plain, contract));
    const alone = await parseLines(...contract);
    assert.deepEqual([alone.text, alone.signed, alone.attachments.length, alone.limited], [null, null, 1, null]);
    assert.deepEqual(
      [file.text?.trim(), file.signed, file.encrypted, file.attachments[0]?.filename],
      ["Hello", null, null, "contract.pdf.p7m"],
    );
  });

  test("and compressed, or signed again, is opened to the end", async () => {
    const { text, signed } = await smime(
      compressedEntity(inside(signedEntity(inside(compressedEntity(ENTITY))))),
      "compressed-data",
    );
    assert.deepEqual([text?.trim(), signed], ["Grüße", "smime"]);
  });

  test("may have its signature beside it, and nothing but certificates", async () => {
    const smimeLetter = await beside('; protocol="application/pkcs7-signature"', "application/pkcs7-signature");
    const pgpLetter = await beside("", "application/pgp-signature");
    assert.deepEqual(
      [smimeLetter.signed, smimeLetter.text?.trim(), pgpLetter.signed, pgpLetter.encrypted],
      ["smime", "Hello", "pgp", null],
    );
    const certificates = await smime(Buffer.from(certificateByOpenssl, "base64"), "certs-only");
    assert.deepEqual([certificates.signed, certificates.encrypted, certificates.attachments.length], [null, null, 1]);
  });
});

describe("A letter encrypted by S/MIME", () => {
  test("is given as it is, and said to be encrypted; so is what is encrypted inside a signature", async () => {
    const bytes = Buffer.from(encryptedByOpenssl, "base64");
    const { encrypted, signed, attachments, text } = await smime(bytes, "enveloped-data");
    assert.deepEqual([encrypted, signed, text], ["smime", null, null]);
    assert.deepEqual(Buffer.from(attachments[0]?.content ?? []), bytes);
    const closed = await smime(signedEntity(encoded("application/pkcs7-mime; name=smime.p7m", bytes).join("\r\n")));
    assert.deepEqual([closed.encrypted, closed.signed, closed.attachments.length], ["smime", "smime", 1]);
  });

  test("that cannot be read is what its label says, and what cannot be opened is said", async () => {
    const broken = await smime(Buffer.from("opaque"), "enveloped-data");
    assert.deepEqual([broken.encrypted, broken.attachments.length], ["smime", 1]);
    const signed = await smime(Buffer.from("opaque"), "signed-data");
    assert.deepEqual([signed.encrypted, signed.attachments.length], [null, 1]);
    assert.match(signed.limited?.join() ?? "", /S\/MIME content that cannot be read/);
  });
});

describe("S/MIME that is made to cost", () => {
  test("compressed to nearly nothing stays closed", async () => {
    const bomb = compressedEntity(Buffer.concat([Buffer.from(ENTITY), Buffer.alloc(50_000_000, "a")]));
    const { attachments, text, limited } = await smime(bomb, "compressed-data");
    assert.deepEqual([attachments.length, text], [1, null]);
    assert.match(limited?.join() ?? "", /over the limits/);
  });

  test("wrapped a hundred times, or nested a hundred thousand levels deep, ends at a bound", async () => {
    let entity = ENTITY;
    for (let level = 0; level < 20; level++)
      entity = encoded("application/pkcs7-mime; name=smime.p7m", signedEntity(entity)).join("\r\n");
    const wrapped = await smime(signedEntity(entity));
    assert.deepEqual([wrapped.attachments.length, wrapped.signed], [1, "smime"]);
    assert.match(wrapped.limited?.join() ?? "", /over the limits/);
    const deep = Buffer.concat(Array.from({ length: 100_000 }, () => Buffer.from([0x24, 0x80])));
    assert.equal((await smime(signedData(deep))).text, null);
  });
});

describe("A letter by PGP", () => {
  const texts: [string, string[], "pgp" | null, "pgp" | null][] = [
    ["an encrypted message", armor("MESSAGE", "hQEMA0123456789ab", ["Version: 1"]), "pgp", null],
    ["an encrypted message in the new format", armor("MESSAGE", "wcBMA0123456789ab"), "pgp", null],
    ["a message that is only signed", armor("MESSAGE", "kA0DAAoBAAAAAAAA"), null, "pgp"],
    [
      "a signed text",
      ["-----BEGIN PGP SIGNED MESSAGE-----", "Hash: SHA512", "", "Hello", ...armor("SIGNATURE", "iQEzBAABCAAd")],
      null,
      "pgp",
    ],
    ["a key", armor("PUBLIC KEY BLOCK", "mQENBF0123456789"), null, null],
    ["a quoted message", armor("MESSAGE", "hQEMA0123456789ab").map((line) => `> ${line}`), null, null],
    ["a talk about it", ["What does -----BEGIN PGP MESSAGE----- mean?"], null, null],
  ];
  for (const [name, lines, encrypted, signed] of texts) {
    test(`is seen in its text: ${name}`, async () => {
      const parsed = await parseLines("", "Hello,", "", ...lines);
      assert.deepEqual([parsed.encrypted, parsed.signed], [encrypted, signed]);
      const html = await parseLines(
        "Content-Type: text/html",
        "",
        `<pre>${lines.join("\n").replaceAll(">", "&gt;")}</pre>`,
      );
      assert.deepEqual([html.encrypted, html.signed], [encrypted, signed]);
    });
  }

  test("is seen by its type, also where Exchange changed it", async () => {
    const leaves = [
      ["Content-Type: application/pgp-encrypted", "", "Version: 1"],
      ["Content-Type: application/octet-stream; name=encrypted.asc", "", "x"],
    ];
    const declared = await parseLines(
      'Content-Type: multipart/encrypted; protocol="application/pgp-encrypted"; boundary=b',
      ...mixed(...leaves).slice(1),
    );
    const changed = await parseLines(...mixed(["Content-Type: text/plain", "", ""], ...leaves));
    assert.deepEqual([declared.encrypted, changed.encrypted], ["pgp", "pgp"]);
  });
});

describe("winmail.dat", () => {
  test("is opened: its files are the letter's, its HTML stands beside the letter's text", async () => {
    const stream = tnef(
      body([0x1013, Buffer.from("<p>Grüße</p>")], [0x3fde, 65_001]),
      ...tnefFile("Übersicht.xls", Buffer.from("xls"), [[0x370e, "application/vnd.ms-excel"]]),
      ...tnefFile("logo.png", Buffer.from("png"), [[0x3712, "logo@x"]]),
    );
    const { text, html, attachments, limited } = await parseLines(
      ...mixed(["Content-Type: text/plain; charset=utf-8", "", "Grüße"], winmail(stream)),
    );
    assert.deepEqual([text?.trim(), html, limited], ["Grüße", "<p>Grüße</p>", null]);
    assert.deepEqual(
      attachments.map(({ filename, contentType, contentId, content }) => [
        filename,
        contentType,
        contentId,
        Buffer.from(content ?? []).toString(),
      ]),
      [
        ["Übersicht.xls", "application/vnd.ms-excel", null, "xls"],
        ["logo.png", "application/octet-stream", "logo@x", "png"],
      ],
    );
  });

  test("alone is the letter: in HTML, in plain text, or in rich text around HTML", async () => {
    const html = await parseLines(...winmail(tnef(body([0x1000, "Hello\r\nJohn"], [0x1013, "<p>Hello</p>"]))));
    assert.deepEqual([html.text, html.html, html.attachments], ["Hello\nJohn", "<p>Hello</p>", []]);
    const rtf = String.raw`{\rtf1\ansi\ansicpg1251\fromhtml1 {\*\htmltag64 <p>}\htmlrtf {\htmlrtf0 \'cf\'f0\'e8\'e2\'e5\'f2 \u8364?{\*\htmltag72 </p>}}`;
    const wrapped = await parseLines(...winmail(tnef(body([0x1009, storedRtf(rtf)]))));
    assert.deepEqual([wrapped.html, wrapped.attachments], ["<p>Привет €</p>", []]);
    const rich = await parseLines(
      ...winmail(
        tnef(body([0x1009, storedRtf(String.raw`{\rtf1\ansi{\fonttbl{\f0 Arial;}}\b Hello\b0\par {\pict 00ff}John}`)])),
        "application/octet-stream; name=winmail.dat",
      ),
    );
    assert.deepEqual([rich.text?.trim(), rich.attachments], ["Hello\nJohn", []]);
  });

  test("may hold a message with files of its own, which becomes a message", async () => {
    const inner = tnef(body([0x0037, "Grüße"], [0x1000, "inside"]), ...tnefFile("a.txt", Buffer.from("a")));
    const iid = Buffer.from("0703020000000000c000000000000046", "hex");
    const stream = tnef(
      ...tnefFile("x", Buffer.alloc(0), [
        [0x3705, 5],
        [0x3701, Buffer.concat([iid, inner]), 13],
      ]),
    );
    const { attachments } = await parseLines(...mixed(plain, winmail(stream)));
    assert.deepEqual([attachments[0]?.filename, attachments[0]?.contentType], ["Grüße.eml", "message/rfc822"]);
    const message = await parseMessage(Buffer.from(attachments[0]?.content ?? []), limits);
    assert.deepEqual([message.subject, message.text, message.attachments[0]?.filename], ["Grüße", "inside", "a.txt"]);
  });

  test("and S/MIME are opened one in the other", async () => {
    const packed = tnef(...tnefFile("smime.p7m", signedEntity(ENTITY), [[0x370e, "application/pkcs7-mime"]]));
    const signed = signedEntity(winmail(tnef(body([0x1000, "Hello"]))).join("\r\n"));
    const [outer, inner] = [await parseLines(...winmail(packed)), await smime(signed)];
    assert.deepEqual(
      [outer.text?.trim(), outer.signed, inner.text?.trim(), inner.signed],
      ["Grüße", "smime", "Hello", "smime"],
    );
  });

  test("that is cut gives what is there; what is none stays a file", async () => {
    const stream = tnef(...tnefFile("a.txt", Buffer.from("a")), ...tnefFile("b.txt", Buffer.alloc(1000, "b")));
    for (let length = 0; length < stream.length; length += 17) {
      const { attachments } = await parseLines(...mixed(plain, winmail(stream.subarray(0, length))));
      assert.ok(attachments.length <= 2);
    }
    const none = await parseLines(...mixed(plain, winmail(Buffer.from("nothing"))));
    assert.deepEqual([none.attachments[0]?.filename, none.text?.trim()], ["winmail.dat", "Hello"]);
    assert.match(none.limited?.join() ?? "", /winmail\.dat that cannot be read/);
  });

  test("with sizes and numbers beyond all bounds costs no more than its bytes", async () => {
    const huge = properties([0x1000, "x"]);
    huge.writeUInt32LE(0xffffffff, 0);
    huge.writeUInt32LE(0xffffffff, 8);
    const files = Array.from({ length: 2000 }, (_, at) => tnefFile(`${at}`, Buffer.from("x"))).flat();
    const { attachments } = await parseLines(
      ...mixed(plain, winmail(tnef(attribute(1, ID.messageProperties, huge), ...files))),
    );
    assert.equal(attachments.length, 500);
  });
});
