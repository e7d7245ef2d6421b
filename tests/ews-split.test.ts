/** Taking files out of a message that is too large for one request: what remains is a message, and together they are what it was. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import MailComposer from "nodemailer/lib/mail-composer";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { splitMessage } from "../shared/mail/exchange/split.ts";

const LIMITS = { maxAttachmentBytes: 1e9 };
const hash = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
const big = () => randomBytes(200_000);

function composed(message: object): Promise<Buffer> {
  const people = { from: "ann@example.com", to: "bob@example.net", subject: "Grüße", messageId: "<1@example.com>" };
  return new MailComposer({ ...people, newline: "win", ...message }).compile().build();
}

/** The files of a message with their content, whether they are in it or were taken out of it. */
async function filesOf(raw: Buffer): Promise<string[]> {
  const { attachments } = await parseMessage(raw, LIMITS);
  return attachments.map(({ filename, content }) => `${filename} ${hash(Buffer.from(content ?? []))}`);
}

const MESSAGES: [string, object][] = [
  [
    "a text with files",
    {
      text: "Hi\r\n",
      attachments: [
        { filename: "a.pdf", content: big() },
        { filename: "b", content: "x" },
      ],
    },
  ],
  [
    "text and HTML with a picture inside, and files",
    {
      text: "Hi",
      html: '<img src="cid:logo">',
      attachments: [
        { filename: "lögo.png", cid: "logo", content: big(), contentDisposition: "inline" },
        { filename: `${"sehr langer Name ".repeat(8)}ü.bin`, content: big() },
      ],
    },
  ],
  ["nothing but one file", { attachments: [{ filename: "only.bin", content: big() }] }],
  [
    "nothing but files",
    {
      attachments: [
        { filename: "1.bin", content: big() },
        { filename: "2.bin", content: big() },
      ],
    },
  ],
  [
    "a file that is text, in quoted-printable",
    { text: "Hi", attachments: [{ filename: "ü.txt", content: "é=\r\n".repeat(20_000), encoding: "utf8" }] },
  ],
  [
    "a message as a file",
    {
      text: "Hi",
      attachments: [
        { filename: "m.eml", contentType: "message/rfc822", content: "Subject: x\r\n\r\n" + "y\r\n".repeat(30_000) },
      ],
    },
  ],
];

describe("a message without its files", () => {
  for (const [what, message] of MESSAGES) {
    test(`${what}: every file is taken out or left in, and all else stays`, async () => {
      const raw = await composed(message);
      const { rest, attachments: files } = splitMessage(raw, 2_000);
      assert.ok(rest.length < 10_000, String(rest.length));
      const [before, after] = [await parseMessage(raw, LIMITS), await parseMessage(rest, LIMITS)];
      assert.deepEqual(
        [after.subject, after.messageId, after.to, after.limited],
        [before.subject, before.messageId, before.to, null],
      );
      assert.deepEqual([after.text ?? "", after.html], [before.text ?? "", before.html]);
      const taken = files.map(({ name, bytes }) => `${name} ${hash(bytes())}`);
      assert.deepEqual([...taken, ...(await filesOf(rest))].toSorted(), (await filesOf(raw)).toSorted());
      const inline = before.attachments.filter((one) => one.disposition === "inline" && one.contentId !== null);
      assert.deepEqual(
        files.filter((file) => file.inline).map(({ contentId }) => contentId),
        inline.map(({ contentId }) => contentId),
      );
    });
  }

  test("only as much is taken out as there must be, the largest first", async () => {
    const attachments = [30_000, 90_000, 60_000].map((size) => ({ filename: `${size}`, content: randomBytes(size) }));
    const raw = await composed({ text: "Hi", attachments });
    const { attachments: files } = splitMessage(raw, raw.length - 1000);
    assert.deepEqual(
      files.map(({ name }) => name),
      ["90000"],
    );
    assert.deepEqual(splitMessage(raw, raw.length).attachments, []);
  });

  test("what a signature covers stays together", async () => {
    const inner = await composed({ text: "Hi", attachments: [{ filename: "a.bin", content: big() }] });
    const head = 'From: ann@example.com\r\nTo: bob@example.net\r\nContent-Type: multipart/signed; boundary="s"\r\n\r\n';
    const end = "\r\n--s\r\nContent-Type: application/pgp-signature\r\n\r\n-----BEGIN\r\n--s--\r\n";
    const raw = Buffer.concat([Buffer.from(`${head}--s\r\n`), inner, Buffer.from(end)]);
    const { rest, attachments: files } = splitMessage(raw, 1000);
    assert.deepEqual([files.length, rest.equals(raw)], [0, true]);
  });
});
