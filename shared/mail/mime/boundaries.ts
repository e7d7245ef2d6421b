/** Finds the parts of a multipart whose header has a wrong boundary or none. */
import { isBlankLine, lineEnd } from "./header.ts";

type Range = { from: number; to: number };

const DASH = 45;
const MAX_LINES = 1000;
const CONTENT_FIELD = /^content-(?:type|transfer-encoding|disposition|id|description|location)\s*:/i;

/**
 * The boundary used in this range: the text after the dashes of a line that a header follows, or of a line that is
 * repeated with dashes at its end. Undefined if there is none.
 */
export function findBoundary(bytes: Buffer, { from, to }: Range): string | undefined {
  const seen = new Set<string>();
  for (let at = from; at < to && seen.size < MAX_LINES;) {
    const next = lineEnd(bytes, at, to);
    const isDashed = bytes[at] === DASH && bytes[at + 1] === DASH && next - at < 1000;
    const line = isDashed ? bytes.toString("latin1", at, next).trimEnd() : "";
    if (line.length > 2) {
      if (startsWithHeader(bytes, { from: next, to })) return line.slice(2);
      if (line.endsWith("--") && seen.has(line.slice(0, -2))) return line.slice(2, -2);
      seen.add(line);
    }
    at = next;
  }
  return undefined;
}

/** True if the first line is a header field of a part. An empty line may be before it. */
export function startsWithHeader(bytes: Buffer, { from, to }: Range): boolean {
  const first = isBlankLine(bytes, from, to) ? lineEnd(bytes, from, to) : from;
  return CONTENT_FIELD.test(bytes.toString("latin1", first, Math.min(first + 100, to)));
}
