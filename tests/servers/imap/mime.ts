/** Finds the parts of a raw message without decoding them: where each one's header and body begin and end. */

/** A message or one of its parts, as positions in the raw bytes. */
export type Part = {
  raw: Buffer;
  headerStart: number;
  bodyStart: number;
  end: number;
  headers: Map<string, string[]>;
  type: string;
  subtype: string;
  parameters: Map<string, string>;
  /** The parts of a multipart; the one message of a message/rfc822. */
  children: Part[];
};

// Deeper and wider messages are taken as leaves: clients of a test server do not fetch part 9,999.
const DEEPEST = 100;
const MOST_CHILDREN = 20_000;

type Within = { start: number; end: number; depth: number; inDigest?: boolean };

/** Reads the structure of a whole message, or of a part of it. */
export function parsePart(raw: Buffer, within: Within = { start: 0, end: raw.length, depth: 0 }): Part {
  const { start, end, depth, inDigest } = within;
  const bodyStart = headerEnd(raw, start, end);
  const headers = parseHeaders(raw.subarray(start, bodyStart));
  const value = headers.get("content-type")?.[0] ?? (inDigest ? "message/rfc822" : "text/plain");
  const [, type = "text", subtype = "plain"] = /^\s*([\w-]+)\/([\w.+-]+)/.exec(value.toLowerCase()) ?? [];
  const parameters = parametersOf(value);
  const part: Part = { raw, headerStart: start, bodyStart, end, headers, type, subtype, parameters, children: [] };
  if (depth >= DEEPEST) return part;
  const boundary = parameters.get("boundary");
  if (type === "multipart" && boundary) {
    const pieces = split(raw, bodyStart, end, boundary);
    part.children = pieces.map(([from, to]) =>
      parsePart(raw, { start: from, end: to, depth: depth + 1, inDigest: subtype === "digest" }),
    );
  } else if (type === "message" && subtype === "rfc822") {
    part.children = [parsePart(raw, { start: bodyStart, end, depth: depth + 1 })];
  }
  return part;
}

/** The header fields by lower-case name, unfolded, as the bytes they are (latin1). */
export function parseHeaders(bytes: Buffer): Map<string, string[]> {
  const headers = new Map<string, string[]>();
  const unfolded = bytes.toString("latin1").replaceAll(/\r?\n([ \t])/g, "$1");
  for (const line of unfolded.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const name = line.slice(0, colon).trim().toLowerCase();
    const values = headers.get(name);
    if (values) values.push(line.slice(colon + 1).trim());
    else headers.set(name, [line.slice(colon + 1).trim()]);
  }
  return headers;
}

/** Where the body begins: behind the first blank line, or at `end` if there is none. */
export function headerEnd(raw: Buffer, start: number, end: number): number {
  if (raw[start] === 13 && raw[start + 1] === 10) return start + 2;
  const blank = raw.indexOf("\r\n\r\n", start);
  return blank < 0 || blank + 4 > end ? end : blank + 4;
}

/** The parameters behind the first semicolon of a header value, by lower-case name. */
export function parametersOf(value: string): Map<string, string> {
  const parameters = new Map<string, string>();
  for (const [, name = "", quoted, bare] of value.matchAll(/;\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;]*))/g)) {
    parameters.set(name.toLowerCase(), quoted?.replaceAll(/\\(.)/g, "$1") ?? bare ?? "");
  }
  return parameters;
}

function split(raw: Buffer, from: number, end: number, boundary: string): [number, number][] {
  const pieces: [number, number][] = [];
  const mark = Buffer.from(`--${boundary}`, "latin1");
  let start: number | undefined;
  let at = from;
  while (pieces.length < MOST_CHILDREN) {
    const found = raw.indexOf(mark, at);
    if (found < 0 || found >= end) break;
    at = found + mark.length;
    if (found !== from && raw[found - 1] !== 10) continue;
    const lineEnd = raw.indexOf(10, at);
    const tail = raw.toString("latin1", at, lineEnd < 0 || lineEnd > end ? end : lineEnd).trim();
    if (tail !== "" && tail !== "--") continue;
    if (start !== undefined) pieces.push([start, Math.max(start, found - 2)]);
    start = lineEnd < 0 ? end : Math.min(lineEnd + 1, end);
    if (tail === "--") return pieces;
  }
  if (start !== undefined) pieces.push([start, end]);
  return pieces;
}
