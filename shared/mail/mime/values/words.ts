/**
 * Encoded words (RFC 2047) in header values as they occur: split inside a character or a unit of base64, next to plain
 * text, with blanks or raw question marks, without an end.
 */
import { decodeCharset } from "../charset/decode.ts";
import { MIME_LIMITS, type LimitedReasons } from "../limits.ts";
import { sanitizeText } from "../charset/sanitize.ts";

type Encoding = "Q" | "B";
/** One encoded word: its place in the value, and its encoded content. */
export type EncodedWord = { from: number; to: number; charset: string; encoding: Encoding; content: string };

const OPENER = /=\?([^?\s]{0,100})\?([QqBb])\?/g;
const BLANK = /\s/;

/** Decodes the encoded words of values, up to the limits of one message. Words beyond them stay encoded. */
export function encodedWordDecoder(limited: LimitedReasons): (value: string) => string {
  let remaining: number = MIME_LIMITS.words;
  return (value) => {
    const words = findWords(value);
    if (words.length === 0) return value;
    const most = Math.min(remaining, MIME_LIMITS.wordsPerField);
    if (words.length > most)
      limited.add(`encoded words after the first ${MIME_LIMITS.wordsPerField} of a header field left undecoded`);
    const used = words.slice(0, most);
    remaining -= used.length;
    return sanitizeText(decodeFound(value, used)).replace(/[\r\n]+/g, " ");
  };
}

/** The value with all its encoded words decoded, without a limit. */
export function decodeWords(value: string): string {
  const words = findWords(value);
  return words.length > 0 ? decodeFound(value, words) : value;
}

/** All encoded words of a value, in order. */
export function findWords(value: string): EncodedWord[] {
  if (!value.includes("=?")) return [];
  const openers = [...value.matchAll(OPENER)];
  const words: EncodedWord[] = [];
  let closing = -2;
  for (const [index, opener] of openers.entries()) {
    const from = opener.index;
    if (from < (words.at(-1)?.to ?? 0)) continue;
    const content = from + opener[0].length;
    if (closing !== -1 && closing < content) closing = value.indexOf("?=", content);
    const next = openers[index + 1]?.index ?? value.length;
    const [charset, encoding] = [opener[1]?.toLowerCase() ?? "", opener[2]?.toUpperCase() as Encoding];
    const end = closing >= content && closing < next ? closing : -1;
    const to = end < 0 ? openEnd(value, content, next) : end;
    if (end < 0 && !isWhole(value.slice(content, to), encoding)) continue;
    words.push({ from, to: end < 0 ? to : end + 2, charset, encoding, content: value.slice(content, to) });
  }
  return words;
}

// A word without an end goes to the next blank, or to the next word.
function openEnd(value: string, from: number, next: number): number {
  let to = from;
  while (to < next && !BLANK.test(value.charAt(to))) to++;
  return to;
}

// Words that are cut off are decoded only if they are certainly encoded words.
function isWhole(content: string, encoding: Encoding): boolean {
  return (
    content.length > 1 && (encoding === "B" ? /^[A-Za-z0-9+/]+=*\??$/.test(content) : /=[0-9A-Fa-f]{2}/.test(content))
  );
}

function decodeFound(value: string, words: EncodedWord[]): string {
  let [text, at] = ["", 0];
  for (const group of groupWords(value, words)) {
    const [from, to] = [group[0]?.from ?? 0, group.at(-1)?.to ?? 0];
    text += value.slice(at, from) + decodeGroup(group);
    at = to;
  }
  return text + value.slice(at);
}

// Blanks between adjacent words are ignored (RFC 2047 section 6.2), whatever the charsets are.
function groupWords(value: string, words: EncodedWord[]): EncodedWord[][] {
  const groups: EncodedWord[][] = [];
  for (const word of words) {
    const last = groups.at(-1)?.at(-1);
    if (last && value.slice(last.to, word.from).trim() === "") groups.at(-1)?.push(word);
    else groups.push([word]);
  }
  return groups;
}

function decodeGroup(group: EncodedWord[]): string {
  const runs: EncodedWord[][] = [];
  for (const word of group) {
    const last = runs.at(-1);
    if (last && labelOf(last[0]) === labelOf(word)) last.push(word);
    else runs.push([word]);
  }
  return runs.map(decodeRun).join("");
}

/**
 * RFC 2047 forbids splitting a character over two words, but Outlook and others do it, and some split base64 anywhere.
 * So the bytes of adjacent words in one charset are joined first. If that gives worse text, they are decoded
 * separately.
 */
function decodeRun(run: EncodedWord[]): string {
  const label = labelOf(run[0]);
  if (run.length === 1) return decodeCharset(wordBytes(run), label);
  const joined = decodeCharset(wordBytes(run), label);
  if (!joined.includes("\uFFFD")) return joined;
  const apart = run.map((word) => decodeCharset(wordBytes([word]), label)).join("");
  return countBroken(apart) < countBroken(joined) ? apart : joined;
}

const countBroken = (text: string) => text.split("\uFFFD").length - 1;

// A language (RFC 2231 section 5) is not part of the charset.
function labelOf(word: EncodedWord | undefined): string {
  return word?.charset.split("*")[0] ?? "";
}

function wordBytes(run: EncodedWord[]): Buffer {
  const pieces: Buffer[] = [];
  for (let at = 0; at < run.length;) {
    const base64: string[] = [];
    for (; run[at]?.encoding === "B"; at++) base64.push(run[at]?.content.replace(/[^A-Za-z0-9+/=]+/g, "") ?? "");
    pieces.push(...decodeBase64Words(base64));
    if (at < run.length) pieces.push(decodeQ(run[at++]?.content ?? ""));
  }
  return Buffer.concat(pieces);
}

const isWholeUnits = (content: string) => content.length % 4 === 0;

// Units of base64 have four letters. Words that form whole units only together were cut from one text.
function decodeBase64Words(contents: string[]): Buffer[] {
  const joined = contents.join("");
  const all = contents.every(isWholeUnits) || !isWholeUnits(joined) ? contents : [joined];
  return all.map((content) => Buffer.from(content.replaceAll("=", ""), "base64"));
}

function decodeQ(content: string): Buffer {
  const text = content.replace(/=[ \t]+(?=[0-9A-Fa-f])/g, "=").replace(/[_\s]/g, " ");
  const latin = /[\u0100-\uFFFF]/.test(text) ? Buffer.from(text).toString("latin1") : text;
  const decoded = latin.replace(/=([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(decoded, "latin1");
}

/**
 * A raw header value (one character per byte) in which encoded words have only ASCII. Raw bytes inside a word are
 * encoded by the word's encoding, so that they are decoded by its charset.
 */
export function encodeRawWords(value: string): string {
  let [text, at] = ["", 0];
  for (const { from, to, encoding, content } of findWords(value)) {
    if (!/[\u0080-\u00FF]/.test(content)) continue;
    const start = value.indexOf(content, from);
    const escaped = content.replace(/[\u0080-\u00FF]/g, (byte) =>
      encoding === "Q" ? `=${byte.charCodeAt(0).toString(16).toUpperCase()}` : "",
    );
    text += value.slice(at, start) + escaped;
    at = Math.min(start + content.length, to);
  }
  return text + value.slice(at);
}
