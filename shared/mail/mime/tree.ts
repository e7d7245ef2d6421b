/**
 * Finds the parts of a message and where their bytes are. It reads the lines once. Parts, depth and header bytes are
 * limited, so that the cost is a few reads of the message. If a multipart is not as declared, boundaries.ts looks for
 * its real parts.
 */
import { decodeTransferEncoding } from "./body.ts";
import { findBoundary, startsWithHeader } from "./boundaries.ts";
import { MIME_LIMITS, type LimitedReasons } from "./limits.ts";
import { type Field, type HeaderBlock, isBlankLine, lineEnd, readHeader, fieldValue } from "./header.ts";
import { type MediaType, parseMediaType } from "./values/media-type.ts";
import { type Parameterized, parseParameters } from "./values/parameters.ts";

/**
 * One part. A leaf has its encoded content at `from` to `to` in `source`. A multipart has a boundary and children.
 * `source` is the message, or the decoded content of a multipart that was encoded as a whole.
 */
export type Part = {
  fields: Field[];
  media: MediaType;
  /** The Content-Disposition. Its value is empty if there is none. */
  disposition: Parameterized;
  boundary: string | null;
  children: Part[];
  source: Buffer;
  from: number;
  to: number;
};

type OpenMultipart = { part: Part; delimiter: string; level: number };
/**
 * One pass over a range: the open multiparts, outermost first, the last one closed at each depth, and all multiparts so
 * far.
 */
type Pass = {
  open: OpenMultipart[];
  closed: OpenMultipart[];
  all: { part: Part; level: number }[];
  level: number;
  count: Count;
  /** True if text may follow a delimiter on its line (RFC 2046 section 5.1.1, note to implementors). */
  loose: boolean;
};
type Count = { parts: number; limited: LimitedReasons };
type Hit = { depth: number; last: boolean };
/** The progress in a part: the leaf whose end is not found yet, and the place of the next line. */
type Read = { leaf: Part | undefined; at: number };

const DASH = 45;
/** How deep parts are searched for again inside recovered parts. Each level is one pass over their bytes. */
const MAX_RECOVERIES = 4;
const PART_LIMITS = {
  bytes: MIME_LIMITS.partHeaderBytes,
  fields: MIME_LIMITS.fields,
  fieldBytes: MIME_LIMITS.partFieldBytes,
};

/**
 * Finds the parts of the message whose header is `header`. Everything beyond the limits becomes one leaf, and so does a
 * multipart whose parts cannot be found. `limited` says so.
 */
export function readTree(bytes: Buffer, header: HeaderBlock, limited: LimitedReasons): Part {
  const root = newPart(header.fields, "text/plain", { source: bytes, from: header.body, to: bytes.length });
  const count = { parts: 1, limited };
  recoverParts(readRange(root, 0, count), MAX_RECOVERIES, count);
  return root;
}

/** All leaves of a tree, in order. */
export function leaves(part: Part): Part[] {
  const found: Part[] = [];
  const walk = (one: Part) => {
    if (one.boundary === null) found.push(one);
    else one.children.forEach(walk);
  };
  walk(part);
  return found;
}

/** Reads a part at depth `level` by the declared boundaries. */
function readRange(top: Part, level: number, count: Count, loose = false): Pass {
  const pass: Pass = { open: [], closed: [], all: [], level, count, loose };
  const { source, to } = top;
  let { leaf, at } = enterPart(top, pass);
  if (pass.all.length === 0) return pass;
  while (at < to) {
    const isDashed = source[at] === DASH && source[at + 1] === DASH;
    const next = isDashed ? lineEnd(source, at, to) : nextDashes(source, at, to);
    const hit = isDashed ? delimiterAt(source.toString("latin1", at, next).trimEnd(), pass) : undefined;
    if (!hit) {
      at = next;
      continue;
    }
    if (leaf) leaf.to = contentEnd(source, leaf.from, at);
    closeMultiparts(pass, hit, at);
    const parent = hit.last ? undefined : pass.open.at(-1)?.part;
    if (!parent) [leaf, at] = [undefined, next];
    else if (count.parts < MIME_LIMITS.parts) ({ leaf, at } = readPart(parent, { from: next, to }, pass));
    else {
      count.limited.add(`parts after the first ${MIME_LIMITS.parts} kept as one attachment`);
      parent.children.push(newPart([], "application/octet-stream", { source, from: at, to }));
      return pass;
    }
  }
  if (leaf) leaf.to = to;
  return pass;
}

const LINE_OF_DASHES = Buffer.from("\n--");

/** The start of the next line that may be a delimiter. */
function nextDashes(source: Buffer, at: number, to: number): number {
  const found = source.indexOf(LINE_OF_DASHES, at);
  return found < 0 || found >= to ? to : found + 1;
}

/**
 * Closes the multiparts inside the one whose delimiter was found. If it was the last delimiter, closes this one too.
 */
function closeMultiparts({ open, closed }: Pass, { depth, last }: Hit, at: number): void {
  // A multipart that was closed too early continues when its delimiter occurs again.
  const again = depth === open.length && !last ? closed[depth] : undefined;
  if (again) open.push(again);
  const ended = open.splice(last ? depth : depth + 1);
  for (const { part } of ended) part.to = contentEnd(part.source, part.from, at);
  closed.length = Math.min(closed.length, depth + 1);
  if (last && ended[0]) closed[depth] = ended[0];
}

function readPart(parent: Part, range: { from: number; to: number }, pass: Pass): Read {
  pass.count.parts++;
  const { source } = parent;
  const block = readPartHeader(source, range, pass);
  const fallback = parent.media.type === "multipart/digest" ? "message/rfc822" : "text/plain";
  const part = newPart(block.fields, fallback, { source, from: block.body, to: range.to });
  parent.children.push(part);
  const read = enterPart(part, pass);
  const hidden = read.leaf || read.at !== part.from ? [] : hiddenFields(part);
  if (hidden.length === 0) return read;
  const first = newPart(hidden, "text/plain", { source, from: part.from, to: part.to });
  part.children.push(first);
  return enterPart(first, pass);
}

// If the first delimiter and the empty line before it are missing, the header of a multipart contains that of its
// first part.
function hiddenFields({ fields, source, from }: Part): Field[] {
  const types = fields.filter(({ name }) => name === "content-type");
  const startsWithDelimiter = source[from] === DASH && source[from + 1] === DASH;
  const second = types[1];
  if (!second || startsWithDelimiter || /^\s*multipart\//i.test(second.value)) return [];
  return fields.slice(fields.indexOf(second));
}

// If the first delimiter is missing, the first part starts at once.
function enterPart(part: Part, pass: Pass): Read {
  const { source, from, to } = part;
  const leaf = openPart(part, pass);
  return leaf || !startsWithHeader(source, { from, to }) ? { leaf, at: from } : readPart(part, { from, to }, pass);
}

// A multipart is no leaf. One that is nested too deep becomes a leaf.
function openPart(part: Part, pass: Pass): Part | undefined {
  if (!part.media.type.startsWith("multipart/")) return part;
  const level = pass.level + pass.open.length;
  if (level >= MIME_LIMITS.depth) {
    pass.count.limited.add(`parts nested deeper than ${MIME_LIMITS.depth} levels kept as one attachment`);
    return part;
  }
  part.boundary = part.media.params.get("boundary")?.trimEnd() ?? "";
  pass.all.push({ part, level });
  if (part.boundary === "") return part;
  pass.open.push({ part, level, delimiter: `--${Buffer.from(part.boundary).toString("latin1")}` });
  return undefined;
}

// A header also ends at a delimiter, because some parts have no empty line.
function readPartHeader(source: Buffer, { from, to: end }: { from: number; to: number }, pass: Pass): HeaderBlock {
  let to = from;
  // Some parts have an empty line before their header.
  if (isBlankLine(source, to, end) && startsWithHeader(source, { from: to, to: end })) to = lineEnd(source, to, end);
  const first = to;
  while (to < end && to - from <= PART_LIMITS.bytes) {
    const next = lineEnd(source, to, end);
    if (source[to] === DASH && delimiterAt(source.toString("latin1", to, next).trimEnd(), pass)) break;
    const blank = isBlankLine(source, to, end);
    to = next;
    if (blank) break;
  }
  return readHeader(source, { from: first, to }, PART_LIMITS, pass.count.limited);
}

// The innermost one counts first, because a message may use the same boundary twice. A closed multipart continues
// only if no open one matches.
function delimiterAt(line: string, { open, closed, loose }: Pass): Hit | undefined {
  for (let depth = open.length - 1; depth >= 0; depth--) {
    const last = matchDelimiter(line, open[depth], loose);
    if (last !== undefined) return { depth, last };
  }
  const last = matchDelimiter(line, closed[open.length], loose);
  return last === undefined ? undefined : { depth: open.length, last };
}

/** True for the last delimiter of the multipart, false for another of its delimiters, undefined for any other line. */
function matchDelimiter(line: string, multipart: OpenMultipart | undefined, loose: boolean): boolean | undefined {
  if (!multipart || !line.startsWith(multipart.delimiter)) return undefined;
  const rest = line.slice(multipart.delimiter.length);
  if (rest === "" || rest === "--") return rest !== "";
  return loose && /^(?:--)?\s/.test(rest) ? rest.startsWith("--") : undefined;
}

// The line break before a delimiter belongs to the delimiter (RFC 2046 section 5.1.1).
function contentEnd(source: Buffer, from: number, at: number): number {
  if (at > from && source[at - 1] === 10) at--;
  for (let crs = 0; crs < 2 && at > from && source[at - 1] === 13; crs++) at--;
  return Math.max(from, at);
}

/**
 * Searches again for the parts of multiparts without any: in the decoded content if the multipart itself was encoded
 * (which RFC 2045 section 6.4 forbids), and by another boundary than the declared one. If there are none, it is text.
 */
function recoverParts({ all }: Pass, tries: number, count: Count): void {
  for (const { part, level } of all) {
    if (part.children.length > 0) continue;
    const { source, from } = part;
    const to = level === 0 && endsTooEarly(part) ? source.length : part.to;
    part.to = to;
    const found = tries > 0 && otherReadings(part).some((reading) => readAgain(part, reading, { level, tries, count }));
    if (!found) becomeText(Object.assign(part, { source, from, to }), count.limited);
  }
}

// What looks like the last delimiter of the message, before its first part, with text behind it.
function endsTooEarly({ source, to }: Part): boolean {
  return /^\s*--[^\n]*\n\s*\S/.test(source.toString("latin1", to, to + 4096));
}

type Place = { source: Buffer; from: number; to: number };
type Reading = { place: Place; boundary: string | undefined; loose?: boolean };
type Tries = { level: number; tries: number; count: Count };

function otherReadings({ source, from, to, fields, media }: Part): Reading[] {
  const own = { source, from, to };
  const boundary = media.params.get("boundary");
  const visible = findBoundary(source, own);
  const readings = [
    { place: own, boundary, loose: true },
    { place: own, boundary: visible },
  ];
  const content = source.subarray(from, to);
  const decoded = decodeTransferEncoding(content, fieldValue(fields, "content-transfer-encoding") ?? "");
  if (decoded.equals(content)) return readings;
  const inside = { source: decoded, from: 0, to: decoded.length };
  const encoded = [
    { place: inside, boundary },
    { place: inside, boundary: findBoundary(decoded, inside) },
  ];
  // Base64 has no dashes, and quoted-printable no equal signs. Parts that can be seen are not encoded.
  const isEncoded = visible === undefined || /=[0-9A-F]{2}/.test(visible);
  return isEncoded ? [...encoded, ...readings] : [...readings, ...encoded];
}

function readAgain(part: Part, { place, boundary, loose }: Reading, { level, tries, count }: Tries): boolean {
  if (boundary === undefined) return false;
  const params = new Map(part.media.params).set("boundary", boundary);
  Object.assign(part, place, { media: { ...part.media, params } });
  const pass = readRange(part, level, count, loose);
  if (part.children.length > 0) recoverParts(pass, tries - 1, count);
  return part.children.length > 0;
}

function becomeText(part: Part, limited: LimitedReasons): void {
  part.boundary = null;
  part.media = { ...part.media, type: "text/plain" };
  if (part.source.toString("latin1", part.from, part.to).trim() !== "")
    limited.add("a multipart whose parts cannot be found is used as text");
}

/** A part with these fields and no children. If its type cannot be parsed, it gets the fallback. */
export function newPart(fields: Field[], fallback: string, place: Place): Part {
  const media = parseMediaType(fieldValue(fields, "content-type"), fallback);
  const disposition = parseParameters(fieldValue(fields, "content-disposition") ?? "");
  return { fields, media, disposition, boundary: null, children: [], ...place };
}
