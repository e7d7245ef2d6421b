/**
 * The tokens of an address list (RFC 5322 section 3.4): names, comments, addresses in angle brackets, and the signs
 * between them.
 */
import { findWords } from "./words.ts";

/**
 * A token of an address list. `glued` is true if no white space is before it. The text of an `angle` is not parsed yet.
 */
export type Token = {
  kind: "text" | "quoted" | "comment" | "angle" | "comma" | "semicolon" | "colon";
  text: string;
  glued: boolean;
};

const BETWEEN: Record<string, Token["kind"]> = { ",": "comma", ";": "semicolon", ":": "colon" };

/**
 * Splits a value into tokens in linear time. Encoded words are text, whatever characters they contain. Quotes, comments
 * and brackets that are never closed are text too.
 */
export function tokenize(value: string): Token[] {
  const words = new Map(findWords(value).map(({ from, to }) => [from, to]));
  const closing = findClosing(value, words);
  const tokens: Token[] = [];
  let [at, blank] = [0, true];
  const push = (kind: Token["kind"], text: string, next: number) => {
    const last = tokens.at(-1);
    if (kind === "text" && last?.kind === "text" && !blank) last.text += text;
    else tokens.push({ kind, text, glued: !blank });
    [at, blank] = [next, false];
  };
  while (at < value.length) {
    const character = value.charAt(at);
    const wordEnd = words.get(at);
    const close = closing.get(at);
    if (wordEnd !== undefined) push("text", value.slice(at, wordEnd), wordEnd);
    else if (/\s/.test(character)) [at, blank] = [at + 1, true];
    else if (close !== undefined && character === "<") push("angle", value.slice(at + 1, close), close + 1);
    else if (close !== undefined)
      push(character === "(" ? "comment" : "quoted", unescape(value.slice(at + 1, close)), close + 1);
    else if (character === "<")
      push("angle", value.slice(at + 1, openAngleEnd(value, at + 1)), openAngleEnd(value, at + 1));
    else if (character === "[" && tokens.at(-1)?.text.endsWith("@"))
      push("text", value.slice(at, literalEnd(value, at)), literalEnd(value, at));
    else if (BETWEEN[character]) push(BETWEEN[character], character, at + 1);
    else if (character === "\\" && at + 1 < value.length) push("text", value.charAt(at + 1), at + 2);
    else if (character === '"' || character === ">") at++;
    else push("text", character, at + 1);
  }
  return tokens;
}

/** The end of each closed quote, comment and bracket, by its start. */
function findClosing(value: string, words: ReadonlyMap<number, number>): Map<number, number> {
  const { comments, quotesCount } = findComments(value, words);
  const closing = new Map<number, number>();
  let [quote, angle] = [-1, -1];
  for (let at = 0; at < value.length; at++) {
    const character = value.charAt(at);
    const comment = quote < 0 && angle < 0 ? comments.get(at) : undefined;
    if (quote < 0 && words.has(at)) at = (words.get(at) ?? 0) - 1;
    else if (character === "\\") at++;
    else if (character === '"' && quotesCount) {
      if (quote >= 0) closing.set(quote, at);
      quote = quote >= 0 ? -1 : at;
    } else if (quote >= 0) continue;
    else if (comment !== undefined) {
      closing.set(at, comment);
      at = comment;
    } else if (character === "<" && (angle < 0 || value.slice(angle + 1, at).trim() !== "")) angle = at;
    else if (character === ">" && angle >= 0) {
      closing.set(angle, at);
      angle = -1;
    }
  }
  return closing;
}

// An unclosed quote would swallow the addresses after it. So if the number of quotes is odd, none counts.
function findComments(
  value: string,
  words: ReadonlyMap<number, number>,
): { comments: Map<number, number>; quotesCount: boolean } {
  const comments = new Map<number, number>();
  const open: number[] = [];
  let quotes = 0;
  for (let at = 0; at < value.length; at++) {
    const character = value.charAt(at);
    if (words.has(at)) at = (words.get(at) ?? 0) - 1;
    else if (character === "\\") at++;
    else if (character === '"') quotes++;
    else if (character === "(") open.push(at);
    else if (character === ")") {
      const from = open.pop();
      if (from !== undefined) comments.set(from, at);
    }
  }
  return { comments, quotesCount: quotes % 2 === 0 };
}

// An address in unclosed brackets ends where the list continues.
function openAngleEnd(value: string, from: number): number {
  const rest = /[^,;<]*/y;
  rest.lastIndex = from;
  return from + (rest.exec(value)?.[0].length ?? 0);
}

function literalEnd(value: string, from: number): number {
  const close = value.indexOf("]", from);
  return close < 0 ? value.length : close + 1;
}

function unescape(text: string): string {
  return text.replace(/\\(.)/gs, "$1");
}
