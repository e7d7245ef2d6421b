/** The ways to read a text: as it stands, without escapes, and what its base64, hex and numbers encode. */

/** A text with, for each of its UTF-16 units, where it begins and ends in the text that it was read from. */
export type Reading = { text: string; from: number[]; to: number[] };

/** JSON in JSON in a header: escapes in escapes are undone this often. */
const LAYERS = 3;
const ESCAPE =
  /[%=]([0-9a-f]{2})|\\x([0-9a-f]{2})|\\u([0-9a-f]{4})|&#x([0-9a-f]{1,6});|&#(\d{1,6});|\\([0-7]{3})|&(quot|amp|lt|gt|apos);|\\([nrtbf])|\\(.)|=\r?\n/gi;
const ENTITIES: Record<string, string> = { quot: '"', amp: "&", lt: "<", gt: ">", apos: "'" };

function unescapeMatch(match: string, ...groups: (string | number | undefined)[]): string {
  const [byte, hexByte, unit, hexEntity, entity, octal, name, control, other] = groups.map((group) =>
    typeof group === "string" ? group : undefined,
  );
  const hex = byte ?? hexByte ?? unit ?? hexEntity;
  if (hex !== undefined) return toCharacter(Number.parseInt(hex, 16));
  if (entity !== undefined) return toCharacter(Number(entity));
  if (octal !== undefined) return toCharacter(Number.parseInt(octal, 8));
  if (name !== undefined) return ENTITIES[name.toLowerCase()] ?? match;
  return control === undefined ? (other ?? "") : " ";
}

function toCharacter(code: number): string {
  return code > 0x10_ff_ff ? " " : String.fromCodePoint(code);
}

/** The text without one layer of escapes: percent, quoted-printable, JSON, C and HTML. */
function unescapeOnce({ text, from, to }: Reading): Reading {
  const read: Reading = { text: "", from: [], to: [] };
  const add = (piece: string, start: number, end: number) => {
    read.text += piece;
    for (let unit = 0; unit < piece.length; unit++) {
      read.from.push(from[start] ?? 0);
      read.to.push(to[end - 1] ?? 0);
    }
  };
  let at = 0;
  for (const match of text.matchAll(ESCAPE)) {
    for (; at < match.index; at++) add(text[at] ?? "", at, at + 1);
    at += match[0].length;
    add(unescapeMatch(match[0], ...match.slice(1)), match.index, at);
  }
  for (; at < text.length; at++) add(text[at] ?? "", at, at + 1);
  return read;
}

/** The text as it stands, and without each layer of its escapes. */
export function readingsOf(text: string): Reading[] {
  const units = Array.from({ length: text.length }, (_, at) => at);
  let reading: Reading = { text, from: units, to: units.map((at) => at + 1) };
  const readings = [reading];
  for (let layer = 0; layer < LAYERS; layer++) {
    const next = unescapeOnce(reading);
    if (next.text === reading.text) break;
    readings.push((reading = next));
  }
  return readings;
}

/** The same texts without the places, for long texts. */
export function unescapedForms(text: string): string[] {
  const forms = [text];
  for (let layer = 0; layer < LAYERS; layer++) {
    const next = (forms.at(-1) ?? "").replaceAll(ESCAPE, unescapeMatch);
    if (next === forms.at(-1)) break;
    forms.push(next);
  }
  return forms;
}

/** What servers, proxies and languages put between the characters of a text that they repeat. */
const FORMATTING = /[\s\p{Cc}\p{Cf}"'`\\+,]+/gu;

/** The text in one case and without what may stand between its characters. */
export function reduce(text: string): string {
  return text.normalize("NFKD").toUpperCase().replaceAll(FORMATTING, "");
}

/** `reduce` of a reading, with the places. */
export function reduceReading({ text, from, to }: Reading): Reading {
  const reduced: Reading = { text: "", from: [], to: [] };
  for (let at = 0; at < text.length; at++) {
    const kept = reduce(text[at] ?? "");
    reduced.text += kept;
    for (let unit = 0; unit < kept.length; unit++) {
      reduced.from.push(from[at] ?? 0);
      reduced.to.push(to[at] ?? 0);
    }
  }
  return reduced;
}

/** A part of a text that encodes bytes, with the texts that it may encode. */
export type EncodedRun = { start: number; end: number; texts: string[] };

const BASE64 = /[A-Za-z0-9+/_-]{6,}={0,2}/g;
const HEX = /(?:(?:0x)?[0-9a-f]{2}[\s:,-]{0,2}){5,}(?:0x)?[0-9a-f]{2}/gi;
const NUMBERS = /(?:\d{1,3}[\s,;]{1,2}){5,}\d{1,3}/g;

function parseBytes(run: string, base: number): Uint8Array {
  return Uint8Array.from(run.split(/[\s,;]+/), (number) => Number.parseInt(number, base));
}

/** The runs of base64 (from any of its characters on), hex, decimal and octal bytes, read as Latin-1. */
export function encodedRuns(text: string): EncodedRun[] {
  const find = (pattern: RegExp, decode: (run: string) => Uint8Array[]): EncodedRun[] =>
    [...text.matchAll(pattern)].map(({ 0: run, index }) => ({
      start: index,
      end: index + run.length,
      texts: decode(run).map((bytes) => Buffer.from(bytes).toString("latin1")),
    }));
  return [
    ...find(BASE64, (run) => [0, 1, 2, 3].map((skip) => Buffer.from(run.slice(skip), "base64"))),
    ...find(HEX, (run) => [Buffer.from(run.replaceAll(/0x|[^0-9a-f]/gi, ""), "hex")]),
    ...find(NUMBERS, (run) => [10, 8].map((base) => parseBytes(run, base))),
  ];
}
