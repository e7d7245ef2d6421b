/** The values of header fields: encoded words, addresses, message ids and dates, each bounded and never throwing. */
import { addressParser, decodeWords } from "postal-mime";
import type { Party } from "../contract/received.ts";
import { decodeTransfer } from "./mime/body.ts";
import { BOUNDS, type Limited } from "./mime/limits.ts";
import { clean, type Field } from "./mime/header.ts";

/** Decodes the encoded words (RFC 2047) of values, up to the bounds; a value beyond them comes back as it is. */
export function wordDecoder(limited: Limited): (value: string) => string {
  let left: number = BOUNDS.words;
  return (value) => {
    const words = value.includes("=?") ? value.split("=?").length - 1 : 0;
    if (words === 0) return value;
    if (words > Math.min(left, BOUNDS.wordsPerField)) {
      limited.add(`header fields with more than ${BOUNDS.wordsPerField} encoded words left undecoded`);
      return value;
    }
    left -= words;
    return clean(decodeWords(joinWords(value)).replace(/[\r\n]+/g, " "));
  };
}

const WORD = /=\?([^?\s]+)\?([QqBb])\?([^?]*)\?=/g;
type Word = { charset: string; bytes: Buffer; from: number; to: number };

/**
 * Makes one encoded word of neighbours in the same charset. RFC 2047 forbids to split a character over two words; Outlook and
 * others do it all the same, so their bytes are put together before they become text. Where that makes no sense they stay apart.
 */
export function joinWords(value: string): string {
  const groups: Word[][] = [];
  for (const match of value.matchAll(WORD)) {
    const word = wordOf(match);
    const last = groups.at(-1)?.at(-1);
    const joins = last && last.charset === word.charset && value.slice(last.to, word.from).trim() === "";
    if (joins) groups.at(-1)?.push(word);
    else groups.push([word]);
  }
  let [joined, at] = ["", 0];
  for (const group of groups) {
    const [from, to] = [group[0]?.from ?? 0, group.at(-1)?.to ?? 0];
    joined += value.slice(at, from) + oneWord(group, value.slice(from, to));
    at = to;
  }
  return joined + value.slice(at);
}

function oneWord(group: Word[], apart: string): string {
  if (group.length === 1) return apart;
  const bytes = Buffer.concat(group.map((word) => word.bytes));
  const word = `=?${group[0]?.charset}?B?${bytes.toString("base64")}?=`;
  return decodeWords(word).includes("\uFFFD") ? apart : word;
}

function wordOf(match: RegExpExecArray): Word {
  const [source, charset = "", encoding = "", encoded = ""] = match;
  const quoted = encoding.toUpperCase() === "Q";
  const bytes = decodeTransfer(
    Buffer.from(quoted ? encoded.replaceAll("_", " ") : encoded, "latin1"),
    quoted ? "quoted-printable" : "base64",
  );
  // A language tag (RFC 2231 section 5) is no part of the charset.
  const name = charset.split("*")[0]?.toLowerCase() ?? "";
  return { charset: name, bytes, from: match.index, to: match.index + source.length };
}

/** The addresses of all fields of a name, groups flattened, empty ones left out. */
export function parties(fields: Field[], name: string, limited: Limited): Party[] {
  const found: Party[] = [];
  for (const field of fields) {
    if (field.name !== name || field.value === "") continue;
    for (const { name: called, address } of addressesOf(field.value, name, limited)) {
      if (called === "" && address === "") continue;
      if (found.length >= BOUNDS.addresses)
        limited.add(`addresses of ${name} after the first ${BOUNDS.addresses} left out`);
      else found.push({ name: clean(called), address: clean(address) });
    }
  }
  return found;
}

// Cut before parsing, at a comma: the parser's work follows what it is given.
function addressesOf(value: string, name: string, limited: Limited): { name: string; address: string }[] {
  let end = 0;
  for (let commas = 0; commas <= BOUNDS.addresses && end >= 0; commas++) end = value.indexOf(",", end + 1);
  if (end >= 0) limited.add(`addresses of ${name} after the first ${BOUNDS.addresses} left out`);
  const most = end < 0 ? value : value.slice(0, end);
  const words = most.split("=?").length - 1;
  if (words > BOUNDS.wordsPerField) {
    limited.add(`addresses of ${name} left out: more than ${BOUNDS.wordsPerField} encoded words`);
    return [];
  }
  // An unclosed quote would swallow the addresses behind it: then no quote counts.
  const quotes = most.replace(/\\["\\]/g, "").split('"').length - 1;
  const balanced = quotes % 2 === 0 ? most : most.replaceAll('"', " ");
  return addressParser(joinWords(balanced), { flatten: true }).flatMap((one) => (one.group ? one.group : [one]));
}

const MESSAGE_ID = /<[^<>]+>/g;

/** The message ids in a value, each with its angle brackets and without white space (folding leaves some inside). */
export function messageIds(value: string | undefined, limited: Limited): string[] {
  if (value === undefined || value === "") return [];
  const ids = (value.match(MESSAGE_ID) ?? []).map((id) => id.replace(/\s+/g, ""));
  if (ids.length > BOUNDS.references) limited.add(`message ids after the first ${BOUNDS.references} left out`);
  if (ids.length > 0) return ids.slice(0, BOUNDS.references);
  const bare = value.trim().split(/\s+/)[0] ?? "";
  return /^[^\s<>]+$/.test(bare) ? [`<${bare}>`] : [];
}

const MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
// RFC 5322 section 4.3: the zones that are still met by name; any other name means unknown, which is UTC.
const ZONES: ReadonlyMap<string, number> = new Map([
  ["EST", -300],
  ["EDT", -240],
  ["CST", -360],
  ["CDT", -300],
  ["MST", -420],
  ["MDT", -360],
  ["PST", -480],
  ["PDT", -420],
]);
const DATE =
  /^(?:[A-Za-z]+\.?,?\s+)?(\d{1,2})[\s-]+([A-Za-z]{3})[A-Za-z]*\.?,?[\s-]+(\d{2,4})\s+(\d{1,2})[:.](\d{2})(?:[:.](\d{2}))?\s*(\S*)/;

/**
 * A Date field as ISO 8601 UTC, null when it cannot be read. Written out because the runtimes' own parsers differ in what
 * they take (comments, two-digit years, names of zones).
 */
export function isoDate(value: string | undefined): string | null {
  const match = DATE.exec((value ?? "").slice(0, 200).trim());
  if (!match) return null;
  const [, day, month, year, hour, minute, second, zone = ""] = match;
  const index = MONTHS.indexOf((month ?? "").toLowerCase());
  if (index < 0) return null;
  const stamp = Date.UTC(fullYear(year ?? ""), index, Number(day), Number(hour), Number(minute), Number(second ?? 0));
  const date = new Date(stamp - zoneMinutes(zone) * 60_000);
  return Number.isNaN(date.getTime()) ? null : date.toISOString();
}

// RFC 5322 section 4.3: two digits 00 to 49 are 20xx, 50 to 99 and three digits count from 1900.
function fullYear(digits: string): number {
  const year = Number(digits);
  if (digits.length >= 4) return year;
  return digits.length === 2 && year < 50 ? 2000 + year : 1900 + year;
}

function zoneMinutes(zone: string): number {
  const offset = /^([+-])(\d{2}):?(\d{2})/.exec(zone);
  if (!offset) return ZONES.get(zone.toUpperCase()) ?? 0;
  const minutes = Number(offset[2]) * 60 + Number(offset[3]);
  return offset[1] === "-" ? -minutes : minutes;
}
