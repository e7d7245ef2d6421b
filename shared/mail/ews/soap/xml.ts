/**
 * A streaming XML reader. Bytes in chunks of any size become tags and text at once, and only an incomplete tag is kept.
 * It reads what SOAP servers write (UTF-8, no document type), with or without prefixes, and any number of documents one
 * after the other. Own code, because ews-javascript-api loses events that share a chunk or are cut in one, and blocks
 * the process for 0.3 s over 25 MB of MIME.
 */
import { Problem } from "../../../contract/problem.ts";

export type Attributes = Readonly<Record<string, string>>;

/**
 * The callbacks. Names come without their prefix. Text comes as bytes in chunks of any size, with its entities not yet
 * replaced.
 */
export type XmlHandler = {
  opened(name: string, attributes: Attributes): void;
  text(bytes: Buffer): void;
  closed(name: string): void;
};

/** A longer tag, comment or CDATA section is not SOAP. */
const MAX_MARKUP_BYTES = 1024 * 1024;
const LESS_THAN = 0x3c;
const GREATER_THAN = 0x3e;
const QUOTES = new Set([0x22, 0x27]);
const CDATA = "<![CDATA[";

/**
 * Returns a function that takes the next bytes of a document. It throws a `protocol` Problem if they are no XML or have
 * a document type (which could define entities).
 */
export function xmlParser(handler: XmlHandler): (chunk: Buffer) => void {
  // An incomplete tag, in chunks as they came: put together for each new one, it would be read again and again.
  let pending: Buffer[] = [];
  let pendingBytes = 0;
  let endsIn = mayEnd;
  return (chunk) => {
    if (pending.length > 0 && !endsIn(chunk)) {
      // Copies, so that half a tag does not keep whole chunks in memory.
      pending.push(Buffer.from(chunk));
      pendingBytes += chunk.length;
    } else {
      const bytes = pending.length === 0 ? chunk : Buffer.concat([...pending, chunk]);
      const rest = Buffer.from(bytes.subarray(readMarkup(handler, bytes)));
      pending = rest.length > 0 ? [rest] : [];
      pendingBytes = rest.length;
      endsIn = endFinder(rest);
    }
    if (pendingBytes > MAX_MARKUP_BYTES) throw protocolProblem("a tag that does not end");
  };
}

/** Reads what is complete, and returns where it ends. */
function readMarkup(handler: XmlHandler, bytes: Buffer): number {
  let at = 0;
  while (at < bytes.length) {
    const end = bytes[at] === LESS_THAN ? markupEnd(bytes, at) : textEnd(bytes, at);
    if (end === -1) break;
    if (bytes[at] === LESS_THAN) handleMarkup(handler, bytes.subarray(at, end));
    else handler.text(bytes.subarray(at, end));
    at = end;
  }
  return at;
}

type EndsIn = (chunk: Buffer) => boolean;
const mayEnd: EndsIn = () => true;

/** Tells of one further chunk after the other whether incomplete markup ends in it. */
function endFinder(markup: Buffer): EndsIn {
  const begin = markup.toString("latin1", 0, CDATA.length);
  // What is shorter can still become anything.
  if (begin.length < CDATA.length) return mayEnd;
  const mark = endMarkOf(begin);
  if (mark !== undefined) {
    let tail = markup;
    return (chunk) => {
      const seen = Buffer.concat([tail.subarray(1 - mark.length), chunk]);
      tail = seen;
      return seen.includes(mark, 0, "latin1");
    };
  }
  let { quote } = scanTag(markup, 1, 0);
  return (chunk) => {
    const scanned = scanTag(chunk, 0, quote);
    quote = scanned.quote;
    return scanned.end !== -1;
  };
}

function textEnd(bytes: Buffer, from: number): number {
  const next = bytes.indexOf(LESS_THAN, from);
  return next === -1 ? bytes.length : next;
}

/** Where the markup that begins at `from` ends; -1 when it is not complete yet. */
function markupEnd(bytes: Buffer, from: number): number {
  const begin = bytes.toString("latin1", from, from + CDATA.length);
  const mark = endMarkOf(begin);
  if (mark !== undefined)
    return endAfter(bytes, mark, from + (begin === CDATA ? CDATA.length : begin.startsWith("<?") ? 2 : 4));
  if (begin.startsWith("<!")) {
    if (CDATA.startsWith(begin) || "<!--".startsWith(begin)) return -1;
    throw protocolProblem("a document type");
  }
  return scanTag(bytes, from + 1, 0).end;
}

/** What ends markup that is no tag, by its first characters; undefined for a tag, and while that is not known. */
function endMarkOf(begin: string): string | undefined {
  if (begin.startsWith("<!--")) return "-->";
  if (begin.startsWith("<?")) return "?>";
  return begin === CDATA ? "]]>" : undefined;
}

function endAfter(bytes: Buffer, mark: string, from: number): number {
  const at = bytes.indexOf(mark, from, "latin1");
  return at === -1 ? -1 : at + mark.length;
}

/** Where a tag ends, -1 when it does not; `quote` is the sign of the quote that is open, 0 for none. */
function scanTag(bytes: Buffer, from: number, quote: number): { end: number; quote: number } {
  for (let at = from; at < bytes.length; at++) {
    const byte = bytes[at] ?? 0;
    if (quote !== 0) quote = byte === quote ? 0 : quote;
    else if (QUOTES.has(byte)) quote = byte;
    else if (byte === GREATER_THAN) return { end: at + 1, quote };
  }
  return { end: -1, quote };
}

function handleMarkup(handler: XmlHandler, bytes: Buffer): void {
  const second = String.fromCharCode(bytes[1] ?? 0);
  if (second === "?") return;
  if (second === "!") {
    const inner = bytes.subarray(CDATA.length, -3);
    // CDATA is literal text. It is escaped here, because the callback gets text with entities.
    if (bytes.toString("latin1", 0, CDATA.length) === CDATA) handler.text(Buffer.from(escapeXml(inner.toString())));
    return;
  }
  const tag = bytes.toString("utf8", 1, bytes.length - 1);
  if (second === "/") return handler.closed(localName(tag.slice(1).trim()));
  const empty = tag.endsWith("/");
  const [, name, attributes = ""] = /^([^\s/]+)([^]*)$/.exec(empty ? tag.slice(0, -1) : tag) ?? [];
  if (!name || attributes.includes("<")) throw protocolProblem("something that is no XML");
  handler.opened(localName(name), parseAttributes(attributes));
  if (empty) handler.closed(localName(name));
}

function localName(name: string): string {
  return name.slice(name.indexOf(":") + 1);
}

/** A name is looked for where one can begin only, so that none is looked at again from its middle. */
const ATTRIBUTE = /(?<![^\s"'=])([^\s=]{1,1000})\s{0,100}=\s{0,100}(?:"([^"]*)"|'([^']*)')/g;
const NO_ATTRIBUTES: Attributes = Object.freeze({});

function parseAttributes(text: string): Attributes {
  if (!text.includes("=")) return NO_ATTRIBUTES;
  const all: Record<string, string> = Object.create(null);
  for (const [, name = "", double, single] of text.matchAll(ATTRIBUTE)) {
    if (!name.startsWith("xmlns")) all[localName(name)] = unescapeXml(double ?? single ?? "");
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

/** XML text with its entities replaced. Unknown entities and impossible characters stay as they are. */
export function unescapeXml(text: string): string {
  if (!text.includes("&")) return text;
  return text.replaceAll(/&(?:#x([0-9a-f]{1,6})|#(\d{1,7})|([a-z]{2,4}));/gi, (whole, hex, decimal, name) => {
    if (name) return ENTITIES.get(name) ?? whole;
    const code = hex ? Number.parseInt(hex, 16) : Number(decimal);
    return code <= 0x10ffff ? String.fromCodePoint(code) : whole;
  });
}

/** Escapes text for an element or an attribute. Characters that XML cannot contain are left out. */
export function escapeXml(text: string): string {
  return text
    .replaceAll(/[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/gu, "")
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

export function protocolProblem(what: string): Problem {
  return new Problem("protocol", `The server sent ${what} where an answer of Exchange was expected`);
}
