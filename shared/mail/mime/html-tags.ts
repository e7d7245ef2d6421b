/** Reads the tags of HTML one by one. Together they cost one pass over any input. */

/** What starts at a `<`. The name is in lower case, and empty for comments, declarations and plain text. */
export type Tag = {
  name: string;
  closing: boolean;
  /** The text between the name and the end of the tag. */ attributes: string;
  /** Where the text after the tag starts. */ next: number;
  /** True if the `<` starts no tag. */ isText: boolean;
};

const NO_TAG = { name: "", closing: false, attributes: "", isText: false };
const MAX_NAME = 51;
/** The ASCII signs of a name. It starts with a letter. */
const IN_NAME = Array.from({ length: 128 }, (_, code) => /[a-z0-9:_-]/i.test(String.fromCharCode(code)));
const STARTS_NAME = Array.from({ length: 128 }, (_, code) => /[a-z]/i.test(String.fromCharCode(code)));
/** A part of a tag: up to its end, or up to an equal sign with the quoted value after it. */
const PIECE = /[^=>]*(?:>|=\s{0,20}(?:"[^"]*"|'[^']*')?)/y;
const ATTRIBUTE = /([^\s=>"'/]+)(?:\s{0,20}=\s{0,20}(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?/g;

/** Reads the tag whose `<` is at `at`. A tag without an end goes to the end of the HTML. */
export function readTag(html: string, at: number): Tag {
  const sign = html.charAt(at + 1);
  if (sign === "!" && html.startsWith("<!--", at)) return { ...NO_TAG, next: endOf(html, "-->", at + 4) };
  if (sign === "!" || sign === "?") return { ...NO_TAG, next: endOf(html, ">", at + 2) };
  const closing = sign === "/";
  const start = closing ? at + 2 : at + 1;
  if (!STARTS_NAME[html.charCodeAt(start)]) return { ...NO_TAG, next: at + 1, isText: true };
  let from = start + 1;
  while (from < start + MAX_NAME && IN_NAME[html.charCodeAt(from)]) from++;
  const next = tagEnd(html, from);
  return {
    name: html.slice(start, from).toLowerCase(),
    closing,
    attributes: html.slice(from, next),
    next,
    isText: false,
  };
}

// A `>` inside a quoted value does not end the tag.
function tagEnd(html: string, from: number): number {
  const end = html.indexOf(">", from);
  if (end < 0) return html.length;
  if (end === from || !/["']/.test(html.slice(from, end))) return end + 1;
  PIECE.lastIndex = from;
  while (PIECE.test(html)) if (html.charAt(PIECE.lastIndex - 1) === ">") return PIECE.lastIndex;
  return html.length;
}

/** The attributes of a tag, in order: the name in lower case, and the value as it is written, empty without one. */
export function* readAttributes(attributes: string): Generator<{ name: string; value: string }> {
  for (const [, name = "", double, single, bare] of attributes.matchAll(ATTRIBUTE))
    yield { name: name.toLowerCase(), value: double ?? single ?? bare ?? "" };
}

/** Where the end tag of an element starts. -1 if there is none. */
export function findEndTag(html: string, name: string, from: number): number {
  const closing = new RegExp(`</${name}`, "gi");
  closing.lastIndex = from;
  return closing.exec(html)?.index ?? -1;
}

function endOf(html: string, mark: string, from: number): number {
  const at = html.indexOf(mark, from);
  return at < 0 ? html.length : at + mark.length;
}
