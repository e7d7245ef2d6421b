/**
 * Values with parameters (RFC 2045 section 5.1, RFC 2183, RFC 2231) as they occur: without semicolons, with wrong or
 * missing quotes, with names in any encoding.
 */
import { decodeCharset } from "../charset/decode.ts";
import { MIME_LIMITS } from "../limits.ts";

/**
 * `value` is the part before the parameters. The parameters are keyed by name in lower case, with RFC 2231 pieces
 * joined. The first one of a name counts.
 */
export type Parameterized = {
  value: string;
  params: Map<string, string>;
  /** Parameters beyond the bound were left out. */ cut: boolean;
};

type Piece = { text: string; encoded: boolean };
/** The values found for one name: one whole value, or numbered pieces. */
type Said = { plain?: string; extended?: Piece; pieces: Map<number, Piece> };

const NAME = /([^\s=;,"()]+)\s*=\s*/y;
/** If a semicolon is missing, this ends a value without quotes. */
const NEXT_NAME = /\s+[\w*-]{1,60}\s?=/y;
/** The parameters whose values may contain blanks without quotes: file names. */
const HOLDS_BLANKS = /^(?:file)?name\b/;

/** Parses a Content-Type or Content-Disposition. `value` is in lower case and without comments. */
export function parseParameters(text: string): Parameterized {
  const plain = readPlain(text);
  if (plain) return plain;
  const { head, rest } = splitHead(text.slice(0, MIME_LIMITS.partFieldBytes));
  const said = new Map<string, Said>();
  let [count, cut] = [0, false];
  for (const { name, value } of readPairs(rest)) {
    if (++count > MIME_LIMITS.parameters) {
      cut = true;
      break;
    }
    const [, base = "", number, star] = /^([^*]*)(?:\*(\d{1,4}))?(\*?)/.exec(name) ?? [];
    if (base === "") continue;
    const about: Said = said.get(base) ?? { pieces: new Map() };
    said.set(base, about);
    const piece = { text: value, encoded: star === "*" };
    if (number !== undefined) about.pieces.set(Number(number), about.pieces.get(Number(number)) ?? piece);
    else if (piece.encoded) about.extended ??= piece;
    else about.plain ??= value;
  }
  return { value: head, params: new Map([...said].map(([name, about]) => [name, join(about)])), cut };
}

const PLAIN = /^([a-z0-9/.-]*)((?:; ?[a-z-]+=(?:"[^"\\]*"|[^\s"';()=,]+))*)$/i;
const PLAIN_PAIR = /; ?([a-z-]+)=(?:"([^"\\]*)"|([^\s"';()=,]+))/gi;

/** A fast path for a valid value, which nearly all are. */
function readPlain(text: string): Parameterized | undefined {
  const [, head, rest = ""] = text.length < 1000 ? (PLAIN.exec(text) ?? []) : [];
  if (head === undefined) return undefined;
  const params = new Map<string, string>();
  for (const [, name = "", quoted, bare = ""] of rest === "" ? [] : rest.matchAll(PLAIN_PAIR)) {
    const key = name.toLowerCase();
    if (!params.has(key)) params.set(key, quoted ?? bare);
  }
  return { value: head.toLowerCase(), params, cut: false };
}

// RFC 2231 section 4: the encoded form counts before the plain one, which is for old programs.
function join({ plain, extended, pieces }: Said): string {
  if (extended) return decodePieces([extended]);
  if (pieces.size === 0) return plain ?? "";
  return decodePieces([...pieces].toSorted(([a], [b]) => a - b).map(([, piece]) => piece));
}

function decodePieces(pieces: Piece[]): string {
  if (!pieces.some(({ encoded }) => encoded)) return pieces.map(({ text }) => text).join("");
  const first = pieces[0];
  const [, charset, start] = /^([^']{0,100})'[^']{0,100}'([^]*)$/.exec(first?.encoded ? first.text : "") ?? [];
  const bytes = pieces.map(({ text, encoded }, index) => {
    const content = index === 0 ? (start ?? text) : text;
    return encoded ? decodePercent(content) : Buffer.from(content);
  });
  return decodeCharset(Buffer.concat(bytes), charset);
}

/** Decodes `%XX` to its byte, and everything else as UTF-8. */
export function decodePercent(text: string): Buffer {
  const latin = Buffer.from(text).toString("latin1");
  const decoded = latin.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
  return Buffer.from(decoded, "latin1");
}

// The head ends at the first semicolon. If that is missing, it ends before the first blank that a parameter follows.
function splitHead(text: string): { head: string; rest: string } {
  const plain = stripComments(text);
  const semicolon = plain.indexOf(";");
  const head = semicolon < 0 ? plain : plain.slice(0, semicolon);
  const parameter = /(?:^|[\s,])[\w*-]{1,60}\s?=/.exec(head);
  const end = parameter ? parameter.index : head.length;
  return { head: plain.slice(0, end).trim().toLowerCase(), rest: plain.slice(end) };
}

// Comments count only before the parameters: in parameters, plain file names contain parentheses.
function stripComments(value: string): string {
  if (!value.includes("(")) return value;
  let [depth, result] = [0, ""];
  for (let at = 0; at < value.length; at++) {
    const character = value.charAt(at);
    if (character === "(") depth++;
    else if (character === ")" && depth > 0) depth--;
    else if (depth === 0) {
      if (character === ";" || character === '"') return result + value.slice(at);
      result += character;
    }
  }
  return depth === 0 ? result : value;
}

function* readPairs(rest: string): Generator<{ name: string; value: string }> {
  let [at, quotesClose] = [0, true];
  while (at < rest.length) {
    while (at < rest.length && /[\s;,]/.test(rest.charAt(at))) at++;
    NAME.lastIndex = at;
    const match = NAME.exec(rest);
    if (match) {
      const name = match[1]?.toLowerCase() ?? "";
      const from = at + match[0].length;
      const quoted = quotesClose && rest.charAt(from) === '"' ? readQuoted(rest, from + 1) : undefined;
      // If one quote is never closed, no later one is.
      if (!quoted && rest.charAt(from) === '"') quotesClose = false;
      const { value, end } = quoted ?? readBare(rest, from, HOLDS_BLANKS.test(name));
      yield { name, value };
      at = end;
    } else {
      // This is no parameter. Continue after the next blank or semicolon.
      while (at < rest.length && !/[\s;]/.test(rest.charAt(at))) at++;
    }
  }
}

function readBare(rest: string, from: number, holdsBlanks: boolean): { value: string; end: number } {
  if (rest.charAt(from) === '"') from++;
  const semicolon = rest.indexOf(";", from);
  const stop = semicolon < 0 ? rest.length : semicolon;
  let end = from;
  for (; end < stop; end++) {
    if (!/\s/.test(rest.charAt(end))) continue;
    if (!holdsBlanks || isAt(NEXT_NAME, rest, end)) break;
    while (/\s/.test(rest.charAt(end + 1))) end++;
  }
  const value = rest.slice(from, end).trim();
  return { value: value.replace(/^'(.*)'$/s, "$1"), end };
}

/**
 * A quoted string ends at a quote after which something else can follow, because some names contain quotes. A backslash
 * is removed only before a quote or a backslash, because paths of Windows contain single ones. Undefined if the quote
 * is never closed.
 */
function readQuoted(rest: string, from: number): { value: string; end: number } | undefined {
  let value = "";
  for (let at = from; at < rest.length; at++) {
    const character = rest.charAt(at);
    const next = rest.charAt(at + 1);
    if (character === "\\" && (next === "\\" || (next === '"' && !closes(rest, at + 2)))) {
      value += next;
      at++;
    } else if (character === '"' && closes(rest, at + 1)) return { value, end: at + 1 };
    else value += character;
  }
  return undefined;
}

function closes(rest: string, at: number): boolean {
  return isAt(/\s*(?:;|$|\()/y, rest, at) || isAt(NEXT_NAME, rest, at);
}

function isAt(pattern: RegExp, text: string, at: number): boolean {
  pattern.lastIndex = at;
  return pattern.test(text);
}
