/**
 * Messages as odd programs and gateways write them, for the promise that no content is ever lost in silence: it is in the text, in the
 * HTML or in an attachment, or `limited` says what is missing.
 */
import * as fc from "fast-check";
import type { ParsedMessage } from "../../shared/contract/received.ts";
import { parseMessage } from "../../shared/mail/mime/message.ts";

/** A message, and the word that its content has. */
export type Letter = { raw: Buffer; word: string };
type Entity = { header: string[]; body: string };

const WORD = "Kw7order";
const CONTENT = `This is ${WORD}, and there is some more of it here.`;

const TEXT_TYPES = [
  "text/plain",
  "text/plain; charset=utf-8",
  "text/plain charset=utf-8",
  'text/plain; charset="',
  "text",
  "plain",
  "text/",
  "/plain",
  "TEXT/PLAIN; charset=x-nonsense",
  "text/plain; charset=utf-16",
  "text/plain; charset=utf-7",
  "text/plain; charset=iso-2022-kr",
  "text/plain; charset=hz-gb-2312",
  "text/plain; format=flowed; delsp=yes",
  "text/html",
  "text/html; charset=koi8-r",
  "text/calendar; method=REQUEST",
  "text/x-amp-html",
  "text/rfc822-headers",
  "text/enriched",
  "message/rfc822",
  "message/delivery-status",
  "message/disposition-notification",
  "message/feedback-report",
  "message/partial; id=1; number=1; total=2",
  "message/external-body",
  "application/octet-stream",
  "application/pgp-encrypted",
  "application/pkcs7-mime; smime-type=signed-data",
  "application/pkcs7-signature",
  "application/ms-tnef; name=winmail.dat",
  "application/ics",
  "image/png",
  "multipart",
  "multipart/mixed",
  "multipart/digest; boundary=",
  "multipart/alternative; boundary=never",
  "x",
  ";",
  "",
];
const ENCODINGS = [
  "7bit",
  "8bit",
  "binary",
  "base64",
  "quoted-printable",
  "x-uuencode",
  "uue",
  "nonsense",
  "base 64",
  "",
];
const DISPOSITIONS = [
  "inline",
  "attachment",
  "atachment",
  "attachment; filename=a.txt",
  'inline; filename="a.html"',
  "attachment; filename*0=a; filename*1=.pdf",
  ";",
];
const MULTIPARTS = [
  "mixed",
  "alternative",
  "related",
  "related; start=none",
  "signed",
  "encrypted",
  "report",
  "digest",
  "x-odd",
];
/** How a multipart names its boundary. */
const BOUNDARIES: ((boundary: string) => string)[] = [
  (b) => `; boundary="${b}"`,
  (b) => `; boundary=${b}`,
  (b) => ` boundary=${b}`,
  (b) => `; boundary='${b}'`,
  (b) => `;\r\nboundary="${b}"`,
  (b) => `; boundary*0="${b.slice(0, 2)}";\r\n boundary*1="${b.slice(2)}"`,
  (b) => `; boundary*=us-ascii''${b}`,
  (b) => `; boundary="${b}`,
  (b) => `; boundary=${b}x`,
  (b) => `; Boundary = "${b}"`,
  () => "; boundary=other",
  () => "",
];

const pick = <T>(list: readonly T[]) => fc.constantFrom(...list);
const field = (name: string, values: string[]) => pick(values).map((value) => [`${name}: ${value}`]);
const maybe = (lines: fc.Arbitrary<string[]>) => fc.oneof(fc.constant<string[]>([]), lines);

const CODED: ((text: string) => string)[] = [
  (text) => text,
  (text) => Buffer.from(text).toString("base64"),
  (text) => text.replace(/[aeo]/g, (sign) => `=${sign.charCodeAt(0).toString(16).toUpperCase()}`),
  (text) => `<p>${text}</p>`,
  (text) => `begin 644 a.txt\r\n${text}\r\nend`,
  (text) => `--\r\n${text}\r\n-- \r\n`,
  (text) => `> ${text}\r\n`,
  (text) => `\r\n\r\n${text}`,
  (text) => `Subject: inner\r\n\r\n${text}`,
  (text) => `${text}\0\u00E9\u00C3`,
];

const leaf: fc.Arbitrary<Entity> = fc
  .tuple(
    maybe(field("Content-Type", TEXT_TYPES)),
    maybe(field("Content-Transfer-Encoding", ENCODINGS)),
    maybe(field("Content-Disposition", DISPOSITIONS)),
    pick(CODED),
  )
  .map(([type, encoding, disposition, code]) => ({
    header: [...type, ...encoding, ...disposition],
    body: code(CONTENT),
  }));

function multipart(parts: fc.Arbitrary<Entity>): fc.Arbitrary<Entity> {
  const whole = fc.record({
    subtype: pick(MULTIPARTS),
    boundary: pick(["bound", "b", "=_x", "a b", "-".repeat(40), "y".repeat(310)]),
    named: pick(BOUNDARIES),
    inner: fc.array(parts, { minLength: 1, maxLength: 3 }),
    ends: fc.boolean(),
    blank: pick(["\r\n", "\r\n", ""]),
    encoding: maybe(field("Content-Transfer-Encoding", ["base64", "quoted-printable"])),
    encoded: fc.boolean(),
  });
  return whole.map(({ subtype, boundary, named, inner, ends, blank, encoding, encoded }) => {
    const joined = inner.map(
      ({ header, body }) =>
        `--${boundary}\r\n${header.join("\r\n")}${header.length > 0 ? "\r\n" : ""}${blank}${body}\r\n`,
    );
    const body = joined.join("") + (ends ? `--${boundary}--\r\n` : "");
    const coded = encoded && encoding[0]?.endsWith("base64") ? Buffer.from(body, "latin1").toString("base64") : body;
    return { header: [`Content-Type: multipart/${subtype}${named(boundary)}`, ...encoding], body: coded };
  });
}

const entity = fc.letrec<{ entity: Entity }>((tie) => ({
  entity: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    { weight: 2, arbitrary: leaf },
    { weight: 3, arbitrary: multipart(tie("entity")) },
  ),
})).entity;

const HEADER_LINES = [
  "From: Ann <ann@a.example>",
  "To: bob@b.example",
  "Subject: Order",
  "MIME-Version: 1.0",
  "From ann@a.example Mon Jan  5 10:00:00 2026",
  "no field at all",
  "Received: from x",
  "\tfolded",
  "X-Odd : 1",
  "=?utf-8?Q?a?=",
];
/** What happens to a message on its way. Each keeps the word. */
const WAYS: ((text: string) => string)[] = [
  (text) => text,
  (text) => text,
  (text) => text.replaceAll("\r\n", "\n"),
  (text) => text.replaceAll("\r\n", "\r"),
  (text) => text.replaceAll("\r\n", "\r\r\n"),
  (text) => `\r\n${text}`,
  (text) => `\u00EF\u00BB\u00BF${text}`,
  (text) => `>From x Mon Jan  5 10:00:00 2026\r\n${text}`,
];

const letter: fc.Arbitrary<Letter> = fc
  .tuple(fc.array(pick(HEADER_LINES), { maxLength: 4 }), entity, pick(WAYS))
  .map(([lines, { header, body }, way]) => ({
    raw: Buffer.from(way(`${[...lines, ...header].join("\r\n")}\r\n\r\n${body}`), "latin1"),
    word: WORD,
  }));

/** Cuts, doubles and removes lines, and changes single bytes. */
const damaged: fc.Arbitrary<Letter> = fc
  .tuple(
    letter,
    fc.array(fc.tuple(fc.nat(), fc.nat(), pick(["cut", "double", "byte", "end"] as const)), {
      minLength: 1,
      maxLength: 4,
    }),
  )
  .map(([{ raw, word }, changes]) => ({ raw: changes.reduce(damage, raw), word }));

function damage(raw: Buffer, [where, value, kind]: [number, number, "cut" | "double" | "byte" | "end"]): Buffer {
  const lines = raw.toString("latin1").split("\n");
  const at = where % lines.length;
  if (kind === "cut") lines.splice(at, 1);
  else if (kind === "double") lines.splice(at, 0, lines[at] ?? "");
  else if (kind === "end") return raw.subarray(0, where % (raw.length + 1));
  else {
    const changed = Buffer.from(raw);
    if (changed.length > 0) changed[where % changed.length] = value % 256;
    return changed;
  }
  return Buffer.from(lines.join("\n"), "latin1");
}

function contentOf({ text, html, attachments }: ParsedMessage): string {
  const files = attachments.map(({ content }) => Buffer.from(content ?? []).toString("latin1"));
  return [text ?? "", html ?? "", ...files].join("\n");
}

/** True if the word is somewhere in the text, as it stands or encoded. */
function holds(text: string, word: string): boolean {
  const plain = text.replace(/=([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  if (plain.includes(word)) return true;
  return (text.match(/[A-Za-z0-9+/]{40,}={0,2}/g) ?? []).some((one) => {
    const inner = Buffer.from(one, "base64").toString("latin1");
    return inner.includes(word) || (inner.length > 30 && inner !== text && holds(inner, word));
  });
}

/** Fails if the content of an odd message is nowhere, and `limited` is silent. */
export const keepsContent = fc.asyncProperty(letter, async ({ raw, word }) => {
  const parsed = await parseMessage(raw, { maxAttachmentBytes: 1_000_000 });
  if (parsed.limited === null && !holds(contentOf(parsed), word)) throw new Error(`lost: ${describe(parsed)}`);
});

/** The lines after an empty line, up to the next line of dashes: damage can put content into a header, where it is none. */
function bodiesOf(raw: Buffer): string {
  const blocks = raw
    .toString("latin1")
    .split(/^--.*$/m)
    .map((block) => /\r*\n\r*\n([^]*)/.exec(block)?.[1] ?? "");
  return blocks.join("\n");
}

/** Fails if a message that still has some content after damage is delivered as nothing at all. */
export const isNeverNothing = fc.asyncProperty(damaged, async ({ raw, word }) => {
  if (!holds(bodiesOf(raw), word)) return;
  const parsed = await parseMessage(raw, { maxAttachmentBytes: 1_000_000 });
  if (parsed.limited !== null || holds(JSON.stringify(parsed.headers), word)) return;
  if (contentOf(parsed).trim() === "") throw new Error(`nothing: ${describe(parsed)}`);
});

function describe({ text, html, attachments }: ParsedMessage): string {
  return JSON.stringify({ text, html, attachments });
}
