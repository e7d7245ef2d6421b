/** Finds the places at which a text repeats a message that the server was given. */
import { randomInt } from "node:crypto";
import { encodedRuns, readingsOf, reduce, reduceReading, type Reading, unescapedForms } from "./readings.ts";
import type { Place } from "./secrets.ts";

/** So many characters of a message in a row are hidden. Names of header fields and addresses are often shorter. */
const SHORTEST = 14;
/** How much of a message is compared. */
export const COMPARED_BYTES = 256 * 1024;
const BASE64_LINES = /[A-Za-z0-9+/]{40,}(?:\r?\n[A-Za-z0-9+/]+)*={0,2}/g;

/** The places in `text` that repeat fourteen characters of the message in a row. */
export function findMessage(text: string, message: Uint8Array | string): Place[] {
  const readings = readingsOf(text).flatMap((reading) => [reduceReading(reading), ...readEncoded(reading)]);
  const windows = readings.flatMap(windowsOf);
  if (windows.length === 0) return [];
  const hash = rollingHash(randomInt(2 ** 20) * 2 + 1);
  const wanted = Map.groupBy(windows, ({ text: piece }) => hash.of(piece));
  return formsOf(message).flatMap((form) => findWanted(form, wanted, hash));
}

/** What the runs of base64, hex and numbers encode. Each of its characters stands for the whole run. */
function readEncoded({ text, from, to }: Reading): Reading[] {
  return encodedRuns(text).flatMap(({ start, end, texts }) =>
    texts.map(reduce).map((decoded) => ({
      text: decoded,
      from: Array.from(decoded, () => from[start] ?? 0),
      to: Array.from(decoded, () => to[end - 1] ?? 0),
    })),
  );
}

/** The message as it is, without its escapes, taken for Latin-1, backwards, and what its base64 encodes. */
function formsOf(message: Uint8Array | string): string[] {
  const text =
    typeof message === "string"
      ? message.slice(0, COMPARED_BYTES)
      : Buffer.from(message.subarray(0, COMPARED_BYTES)).toString("utf8");
  const decoded = [...text.matchAll(BASE64_LINES)].map(([lines]) => Buffer.from(lines, "base64").toString("utf8"));
  const backwards = [...text].toReversed().join("");
  const misread = Buffer.from(text).toString("latin1");
  return [...new Set([...unescapedForms(text), misread, backwards, decoded.join("\n")])].map(reduce);
}

type Window = Place & { text: string };

function windowsOf({ text, from, to }: Reading): Window[] {
  return Array.from({ length: Math.max(0, text.length - SHORTEST + 1) }, (_, at) => ({
    text: text.slice(at, at + SHORTEST),
    start: from[at] ?? 0,
    end: to[at + SHORTEST - 1] ?? 0,
  }));
}

/** The windows that the form has. Each is found once, so that a message of one letter costs no more than another. */
function findWanted(form: string, wanted: Map<number, Window[]>, hash: RollingHash): Place[] {
  const places: Place[] = [];
  let value = 0;
  for (let at = 0; at < form.length; at++) {
    value = hash.next(value, form.charCodeAt(at), at < SHORTEST ? 0 : form.charCodeAt(at - SHORTEST));
    const candidates = at < SHORTEST - 1 ? undefined : wanted.get(value);
    if (!candidates) continue;
    const piece = form.slice(at - SHORTEST + 1, at + 1);
    places.push(...candidates.filter(({ text }) => text === piece));
    wanted.set(
      value,
      candidates.filter(({ text }) => text !== piece),
    );
  }
  return places;
}

type RollingHash = { of: (window: string) => number; next: (value: number, added: number, removed: number) => number };

/** A hash of the last fourteen characters (Rabin and Karp). Nobody can aim at collisions of a random base. */
function rollingHash(base: number): RollingHash {
  let power = 1;
  for (let times = 0; times < SHORTEST; times++) power = Math.imul(power, base);
  const next = (value: number, added: number, removed: number) =>
    (Math.imul(value, base) + added - Math.imul(removed, power)) | 0;
  const of = (window: string) => {
    let value = 0;
    for (let at = 0; at < window.length; at++) value = next(value, window.charCodeAt(at), 0);
    return value;
  };
  return { of, next };
}
