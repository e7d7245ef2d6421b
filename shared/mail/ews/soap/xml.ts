/**
 * XML as it comes in: bytes in any cutting become tags and text at once, and nothing is kept but a tag that is not whole yet. It reads
 * what SOAP servers write (UTF-8, no document type), prefixed or not, any number of documents one after the other.
 */
import { Problem } from "../../../contract/problem.ts";

export type Attributes = Readonly<Record<string, string>>;

/** Who is told. Names come without their prefix; text comes in pieces cut anywhere, as bytes whose entities still stand. */
export type MarkupReader = {
  opened(name: string, attributes: Attributes): void;
  text(bytes: Buffer): void;
  closed(name: string): void;
};

/** A tag, comment or CDATA section longer than this is no SOAP. */
const LONGEST_MARKUP = 1024 * 1024;
const LESS_THAN = 0x3c;
const GREATER_THAN = 0x3e;
const QUOTES = new Set([0x22, 0x27]);
const CDATA = "<![CDATA[";

/** Takes the next bytes of a document; throws a `protocol` Problem where it is no XML, or has a document type (which could define entities). */
export function markup(reader: MarkupReader): (chunk: Buffer) => void {
  let rest = Buffer.alloc(0);
  return (chunk) => {
    const bytes = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    let at = 0;
    while (at < bytes.length) {
      const end = bytes[at] === LESS_THAN ? markupEnd(bytes, at) : textEnd(bytes, at);
      if (end === -1) break;
      if (bytes[at] === LESS_THAN) marked(reader, bytes.subarray(at, end));
      else reader.text(bytes.subarray(at, end));
      at = end;
    }
    if (bytes.length - at > LONGEST_MARKUP) throw unreadable("a tag that does not end");
    // A copy, so that half a tag does not keep a whole chunk in memory.
    rest = Buffer.from(bytes.subarray(at));
  };
}

function textEnd(bytes: Buffer, from: number): number {
  const next = bytes.indexOf(LESS_THAN, from);
  return next === -1 ? bytes.length : next;
}

/** Where the markup that begins at `from` ends, or -1 when not all of it is there yet. */
function markupEnd(bytes: Buffer, from: number): number {
  const begin = bytes.toString("latin1", from, from + CDATA.length);
  if (begin.startsWith("<!--")) return endAfter(bytes, "-->", from + 4);
  if (begin.startsWith("<?")) return endAfter(bytes, "?>", from + 2);
  if (begin === CDATA) return endAfter(bytes, "]]>", from + CDATA.length);
  if (begin.startsWith("<!")) {
    if (CDATA.startsWith(begin) || "<!--".startsWith(begin)) return -1;
    throw unreadable("a document type");
  }
  return tagEnd(bytes, from + 1);
}

function endAfter(bytes: Buffer, mark: string, from: number): number {
  const at = bytes.indexOf(mark, from, "latin1");
  return at === -1 ? -1 : at + mark.length;
}

function tagEnd(bytes: Buffer, from: number): number {
  let quote = 0;
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    if (quote !== 0) quote = byte === quote ? 0 : quote;
    else if (QUOTES.has(byte)) quote = byte;
    else if (byte === GREATER_THAN) return at + 1;
  }
  return -1;
}

function marked(reader: MarkupReader, bytes: Buffer): void {
  const second = String.fromCharCode(bytes[1] ?? 0);
  if (second === "?") return;
  if (second === "!") {
    const inner = bytes.subarray(CDATA.length, -3);
    // What stands in CDATA stands for itself, so it is shown the way other text comes.
    if (bytes.toString("latin1", 0, CDATA.length) === CDATA) reader.text(Buffer.from(escaped(inner.toString())));
    return;
  }
  const tag = bytes.toString("utf8", 1, bytes.length - 1);
  if (second === "/") return reader.closed(localName(tag.slice(1).trim()));
  const empty = tag.endsWith("/");
  const [, name, attributes = ""] = /^([^\s/]+)([^]*)$/.exec(empty ? tag.slice(0, -1) : tag) ?? [];
  if (!name || attributes.includes("<")) throw unreadable("something that is no XML");
  reader.opened(localName(name), attributesOf(attributes));
  if (empty) reader.closed(localName(name));
}

function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

const NO_ATTRIBUTES: Attributes = Object.freeze({});

function attributesOf(text: string): Attributes {
  if (!text.includes("=")) return NO_ATTRIBUTES;
  const all: Record<string, string> = Object.create(null);
  for (const [, name = "", double, single] of text.matchAll(/([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g)) {
    if (!name.startsWith("xmlns")) all[localName(name)] = unescaped(double ?? single ?? "");
  }
  return all;
}

const ENTITIES = new Map([
  ["amp", "&"],
  ["lt", "<"],
  ["gt", ">"],
  ["quot", '"'],
  ["apos", "'"],
]);

/** The text that XML text stands for. Unknown entities and impossible characters stay as they are. */
export function unescaped(text: string): string {
  if (!text.includes("&")) return text;
  return text.replaceAll(/&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|([a-z]{2,4}));/gi, (whole, hex, decimal, name) => {
    if (name) return ENTITIES.get(name) ?? whole;
    const code = hex ? Number.parseInt(hex, 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

/** Text as it may stand in an element or an attribute; characters that XML has no way to write are left out. */
export function escaped(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, "")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

export function unreadable(what: string): Problem {
  return new Problem("protocol", `The server sent ${what} where an answer of Exchange was expected`);
}
