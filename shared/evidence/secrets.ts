/** Finds the places at which a text repeats a secret, in whatever form. */
import { encodedRuns, readingsOf, reduce, reduceReading, type Reading, unescapedForms } from "./readings.ts";

/** So many characters of a secret in a row are hidden. A shorter secret is hidden where it stands as a value. */
const PIECE = 6;
/** Base64 in base64: a header with a login, in an encoded answer. */
const DEPTH = 2;
/** A server that takes UTF-8 for one of these repeats other characters than it was given. */
const MISREADINGS = ["windows-1252", "windows-1251", "koi8-r"] as const;

/** The lines around a key are no part of it. */
const PEM_LINE = /-----[A-Z ]+-----/g;

export type Place = { start: number; end: number };
/** `exact` is in one case only; `long` is also without what may stand between characters. `short` has no six of them. */
type Needles = { exact: string[]; long: string[]; short: string[] };

/** The places in `text` that repeat one of the secrets, or six characters of one in a row. */
export function findSecrets(text: string, secrets: readonly string[]): Place[] {
  return findNeedles(text, toNeedles(secrets), DEPTH);
}

function toNeedles(secrets: readonly string[]): Needles {
  const needles: Needles = { exact: [], long: [], short: [] };
  for (const secret of new Set(secrets.map((one) => one.replaceAll(PEM_LINE, "")))) {
    const forms = [...new Set(formsOf(secret).flatMap(unescapedForms))];
    const long = [...new Set(forms.map(reduce))].filter((form) => form.length >= PIECE);
    needles.exact.push(...forms.map(toUpperAscii));
    needles.long.push(...long);
    if (long.length === 0 && secret.trim() !== "") needles.short.push(secret.trim());
  }
  return needles;
}

/** The secret itself, backwards, and its bytes (UTF-8, UTF-16) taken for another charset, once and twice. */
function formsOf(secret: string): string[] {
  const backwards = [...secret].toReversed().join("");
  if (/^\p{ASCII}*$/u.test(secret)) return [secret, backwards];
  const wide = Buffer.from(secret, "utf16le");
  const once = [secret, wide.toString("latin1"), ...misread(secret)];
  return [...once, backwards, wide.swap16().toString("latin1"), ...once.flatMap(misread)];
}

/** In one case, with every character in its place. */
function toUpperAscii(text: string): string {
  return text.replaceAll(/[a-z]+/g, (letters) => letters.toUpperCase());
}

function misread(text: string): string[] {
  const bytes = Buffer.from(text);
  return [bytes.toString("latin1"), ...MISREADINGS.map((charset) => new TextDecoder(charset).decode(bytes))];
}

function findNeedles(text: string, needles: Needles, depth: number): Place[] {
  if (needles.exact.length === 0) return [];
  return readingsOf(text).flatMap((reading) => [
    ...findPieces({ ...reading, text: toUpperAscii(reading.text) }, needles.exact),
    ...findPieces(reduceReading(reading), needles.long),
    ...needles.short.flatMap((secret) => findValues(reading, secret)),
    ...(depth > 0 ? findEncoded(reading, needles, depth) : []),
  ]);
}

function findPieces({ text, from, to }: Reading, needles: readonly string[]): Place[] {
  const places: Place[] = [];
  for (let at = 0; at + PIECE <= text.length; at++) {
    const piece = text.slice(at, at + PIECE);
    if (!/\s.*\s/.test(piece) && needles.some((needle) => needle.includes(piece)))
      places.push({ start: from[at] ?? 0, end: to[at + PIECE - 1] ?? 0 });
  }
  return places;
}

/** Runs that encode a secret. A short one counts only in what is text and encodes text. */
function findEncoded({ text, from, to }: Reading, needles: Needles, depth: number): Place[] {
  const repeats = (run: string, decoded: string) => {
    const isText = !isOrdinary(run) && /^\p{ASCII}+$/u.test(decoded);
    return findNeedles(decoded, { ...needles, short: isText ? needles.short : [] }, depth - 1).length > 0;
  };
  return encodedRuns(text)
    .filter(({ start, end, texts }) => texts.some((decoded) => repeats(text.slice(start, end), decoded)))
    .map(({ start, end }) => ({ start: from[start] ?? 0, end: to[end - 1] ?? 0 }));
}

/** A word, a number or a punctuation mark, as it stands in any text. */
function isOrdinary(text: string): boolean {
  return /^(?:\p{Lu}?\p{Ll}+|\p{Lu}+|\d+|[^\p{L}\p{N}]+)$/u.test(text);
}

const LETTER = /[\p{L}\p{N}]/u;

/**
 * A short secret that looks like a word is hidden only where a value stands, because words must stay: in quotes, after
 * an equals sign, or at the end after a separator, PASS or LOGIN. Any other is hidden wherever it stands alone.
 */
function findValues({ text, from, to }: Reading, secret: string): Place[] {
  const word = RegExp.escape(secret);
  const before = LETTER.test(secret[0] ?? "") ? String.raw`(?<![\p{L}\p{N}])` : "";
  const after = LETTER.test(secret.at(-1) ?? "") ? String.raw`(?![\p{L}\p{N}])` : "";
  const alone = before + word + after;
  const quoted = `(?<=["'\`<])${word}(?=["'\`>])`;
  const last = String.raw`(?<=[/:,;|\0]|PASS |LOGIN \S{1,320} )${alone}(?=[^\p{L}\p{N}]*$)`;
  const pattern = new RegExp(isOrdinary(secret) ? `${quoted}|(?<==)${alone}|${last}` : alone, "gu");
  return [...text.matchAll(pattern)].map(({ index }) => ({
    start: from[index] ?? 0,
    end: to[index + secret.length - 1] ?? 0,
  }));
}
