/**
 * The structure of a message: which parts it has and where their bytes lie. One pass over the lines, bounded in parts, depth
 * and header bytes, so that no message costs more than reading it once.
 */
import { BOUNDS, type Limited } from "./limits.ts";
import { type Field, type HeaderBlock, isBlank, lineEnd, readHeader, valueOf } from "./header.ts";

/** A media type in lower case with its parameters (names in lower case, the first of a name counts), comments taken out. */
export type MediaType = { type: string; params: Map<string, string>; /** From the first semicolon on. */ rest: string };

/** One part: a leaf has its still encoded content at `from` to `to` in the message, a multipart has children. */
export type Part = {
  fields: Field[];
  media: MediaType;
  children: Part[];
  from: number;
  to: number;
};

type Open = { part: Part; delimiter: string };

const DASH = 45;
// RFC 2046 allows 70 characters; a line longer than this is no delimiter, whatever it says.
const LONGEST_DELIMITER = 300;
const PART_LIMITS = { bytes: BOUNDS.partHeaderBytes, fields: BOUNDS.fields, fieldBytes: BOUNDS.partFieldBytes };

/** Reads the parts of the message whose header is `header`. Parts over the bounds are left out and named in `limited`. */
export function readTree(bytes: Buffer, header: HeaderBlock, limited: Limited): Part {
  const root = newPart(header.fields, "text/plain", header.body, bytes.length);
  const open: Open[] = [];
  let parts = 1;
  let leaf: Part | undefined = enter(root, open, limited);
  let at = header.body;
  while (at < bytes.length) {
    const next = lineEnd(bytes, at, bytes.length);
    const hit = open.length > 0 && bytes[at] === DASH ? delimiterAt(bytes, at, next, open) : undefined;
    if (!hit) {
      at = next;
      continue;
    }
    if (leaf) leaf.to = contentEnd(bytes, leaf.from, at);
    leaf = undefined;
    open.length = hit.last ? hit.level : hit.level + 1;
    at = next;
    if (hit.last) continue;
    if (parts >= BOUNDS.parts) {
      limited.add(`parts after the first ${BOUNDS.parts} left out`);
      return root;
    }
    parts++;
    const parent = open[hit.level]?.part ?? root;
    const block = partHeader(bytes, at, open, limited);
    const fallback = parent.media.type === "multipart/digest" ? "message/rfc822" : "text/plain";
    const part = newPart(block.fields, fallback, block.body, bytes.length);
    parent.children.push(part);
    at = block.body;
    leaf = enter(part, open, limited);
  }
  if (leaf) leaf.to = bytes.length;
  return root;
}

// A multipart waits for its parts and is no leaf; one that nests too deep, or names no boundary, is no multipart to us.
function enter(part: Part, open: Open[], limited: Limited): Part | undefined {
  if (!part.media.type.startsWith("multipart/")) return part;
  const boundary = part.media.params.get("boundary") ?? part.media.params.get("boundary*0");
  if (boundary === undefined || boundary === "") {
    part.media = { ...part.media, type: "text/plain" };
    return part;
  }
  if (open.length >= BOUNDS.depth) {
    limited.add(`parts nested deeper than ${BOUNDS.depth} levels left out`);
    return undefined;
  }
  open.push({ part, delimiter: `--${boundary.trimEnd()}` });
  return undefined;
}

// A header ends at a delimiter, too: parts without an empty line are met.
function partHeader(bytes: Buffer, from: number, open: Open[], limited: Limited): HeaderBlock {
  let to = from;
  while (to < bytes.length && to - from <= PART_LIMITS.bytes) {
    const next = lineEnd(bytes, to, bytes.length);
    if (bytes[to] === DASH && delimiterAt(bytes, to, next, open)) break;
    const blank = isBlank(bytes, to, bytes.length);
    to = next;
    if (blank) break;
  }
  return readHeader(bytes, { from, to }, PART_LIMITS, limited);
}

// Innermost first: a message may use the same boundary twice.
function delimiterAt(
  bytes: Buffer,
  at: number,
  next: number,
  open: Open[],
): { level: number; last: boolean } | undefined {
  if (bytes[at + 1] !== DASH || next - at > LONGEST_DELIMITER) return undefined;
  const line = bytes.toString("utf8", at, next).trimEnd();
  for (let level = open.length - 1; level >= 0; level--) {
    const delimiter = open[level]?.delimiter;
    if (line === delimiter) return { level, last: false };
    if (line === `${delimiter}--`) return { level, last: true };
  }
  return undefined;
}

// The line break in front of a delimiter belongs to the delimiter (RFC 2046 section 5.1.1).
function contentEnd(bytes: Buffer, from: number, at: number): number {
  if (at > from && bytes[at - 1] === 10) at--;
  if (at > from && bytes[at - 1] === 13) at--;
  return at;
}

function newPart(fields: Field[], fallback: string, from: number, to: number): Part {
  return { fields, media: mediaType(valueOf(fields, "content-type"), fallback), children: [], from, to };
}

const TYPE = /^\s*([a-z0-9!#$&^_.+-]+\/[a-z0-9!#$&^_.+-]+)\s*(?:;|$)/i;

/** Reads a Content-Type; one that cannot be read gives the fallback. */
export function mediaType(value: string | undefined, fallback: string): MediaType {
  const plain = withoutComments((value ?? "").slice(0, BOUNDS.partFieldBytes));
  const type = TYPE.exec(plain)?.[1]?.toLowerCase();
  if (type === undefined) return { type: fallback, params: new Map(), rest: "" };
  const semicolon = plain.indexOf(";");
  const rest = semicolon < 0 ? "" : plain.slice(semicolon);
  return { type, params: parameters(rest), rest };
}

// Comments (RFC 822) only count in front of the parameters: inside them parentheses are met in plain file names.
function withoutComments(value: string): string {
  if (!value.includes("(")) return value;
  let depth = 0;
  let kept = "";
  for (let at = 0; at < value.length; at++) {
    const character = value.charAt(at);
    if (character === "(") depth++;
    else if (character === ")" && depth > 0) depth--;
    else if (depth === 0) {
      if (character === ";") return kept + value.slice(at);
      kept += character;
    }
  }
  return depth === 0 ? kept : value;
}

const PARAMETER = /;\s*([^\s=;"]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;\s"]*))/g;

function parameters(rest: string): Map<string, string> {
  const found = new Map<string, string>();
  for (const [, name = "", quoted, bare] of rest.matchAll(PARAMETER)) {
    if (found.size >= BOUNDS.parameters) break;
    const key = name.toLowerCase();
    if (!found.has(key)) found.set(key, quoted?.replace(/\\(.)/g, "$1") ?? bare ?? "");
  }
  return found;
}

/** All leaves of a tree, in order. */
export function leaves(part: Part): Part[] {
  return part.media.type.startsWith("multipart/") ? part.children.flatMap(leaves) : [part];
}
