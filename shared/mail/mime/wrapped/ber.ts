/**
 * Parses the Basic Encoding Rules of ASN.1 (X.690) as far as CMS needs them. It reads each byte once; the depth is
 * limited.
 */

/** One element. `to` is undefined if its length is indefinite. Then it ends at two zero bytes. */
export type Element = { tag: number; constructed: boolean; from: number; to: number | undefined };

/** How deep elements may be nested. Real messages have about 10 levels, and one more for strings in pieces. */
const MAX_DEPTH = 30;

const CONSTRUCTED = 0x20;
const LONG_TAG = 0x1f;

/** Tags of the universal class, and `context(n)` of the context-specific class. */
export const TAG = { octetString: 0x04, objectId: 0x06, sequence: 0x10 } as const;
export const context = (number: number): number => 0x80 | number;

/**
 * The element at `at`. Undefined if it cannot be read. If its length passes `end`, it ends there, because the message
 * was cut.
 */
export function readElement(bytes: Buffer, at: number, end: number): Element | undefined {
  const [identifier, length] = [bytes[at], bytes[at + 1]];
  if (identifier === undefined || length === undefined || at + 2 > end) return undefined;
  if ((identifier & LONG_TAG) === LONG_TAG) return undefined;
  const constructed = (identifier & CONSTRUCTED) !== 0;
  const tag = identifier & ~CONSTRUCTED;
  if (length < 0x80) return { tag, constructed, from: at + 2, to: Math.min(at + 2 + length, end) };
  if (length === 0x80) return constructed ? { tag, constructed, from: at + 2, to: undefined } : undefined;
  const count = length & 0x7f;
  const from = at + 2 + count;
  if (count > 6 || from > end) return undefined;
  return { tag, constructed, from, to: Math.min(from + bytes.readUIntBE(at + 2, count), end) };
}

/** The start of the next element after this one. Undefined if it cannot be found. */
export function skipElement(bytes: Buffer, element: Element, end: number, depth = 0): number | undefined {
  if (element.to !== undefined) return element.to;
  if (depth > MAX_DEPTH) return undefined;
  let at = element.from;
  while (at < end) {
    if (isEnd(bytes, at)) return at + 2;
    const inner = readElement(bytes, at, end);
    const next = inner && skipElement(bytes, inner, end, depth + 1);
    if (next === undefined) return undefined;
    at = next;
  }
  return undefined;
}

/** The children of a constructed element, in order, up to the first that cannot be read. */
export function* childElements(bytes: Buffer, parent: Element, end: number): Generator<Element> {
  const stop = parent.to ?? end;
  let at: number | undefined = parent.from;
  while (at !== undefined && at < stop) {
    if (parent.to === undefined && isEnd(bytes, at)) return;
    const element = readElement(bytes, at, stop);
    if (!element) return;
    yield element;
    at = skipElement(bytes, element, stop);
  }
}

/** The content of an octet string, with its pieces joined. Undefined if it is nested too deep. */
export function readOctets(bytes: Buffer, element: Element, end: number): Buffer | undefined {
  // One buffer, because a string may have millions of pieces. They are never longer than the whole.
  const joined = Buffer.alloc((element.to ?? end) - element.from);
  const length = copyOctets(bytes, element, { end, depth: 0, joined, length: 0 });
  return length === undefined ? undefined : joined.subarray(0, length);
}

type Copying = { end: number; depth: number; joined: Buffer; length: number };

/** The length with this element. Undefined if it is nested too deep. */
function copyOctets(bytes: Buffer, element: Element, { end, depth, joined, length }: Copying): number | undefined {
  if (!element.constructed) return length + bytes.copy(joined, length, element.from, element.to);
  if (depth > MAX_DEPTH) return undefined;
  const stop = element.to ?? end;
  let copied: number | undefined = length;
  for (const piece of childElements(bytes, element, stop)) {
    // A piece without an end ends with the one around it: otherwise bytes would be read twice at each level.
    copied = copyOctets(bytes, piece, { end: stop, depth: depth + 1, joined, length: copied });
    if (copied === undefined) return undefined;
  }
  return copied;
}

function isEnd(bytes: Buffer, at: number): boolean {
  return bytes[at] === 0 && bytes[at + 1] === 0;
}
