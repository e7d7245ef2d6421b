/**
 * Reads SOAP answers of any length as they arrive, and returns the wanted elements, each as a small tree as soon as its
 * last byte is there. A text in base64 is decoded on the way, so a large message is never held as text.
 */
import { Problem } from "../../../contract/problem.ts";
import { excessProblem, maxContentBytes, sizeText } from "../../net/excess.ts";
import type { Intake } from "../../net/intake.ts";
import { base64Decoder, type Base64Decoder } from "./base64.ts";
import { type Attributes, xmlParser, unescapeXml, protocolProblem } from "./xml.ts";

/**
 * An element without its prefix. `text` is its own text, `bytes` is its decoded base64 if the caller asked for that, and null
 * if it is none.
 */
export type XmlElement = {
  name: string;
  attributes: Attributes;
  text: string;
  bytes: Uint8Array | null;
  children: XmlElement[];
};

export type ElementFilter = {
  /** Elements that are returned whole. Everything around them is dropped. */
  names: readonly string[];
  /** The element inside them whose text is base64. */
  base64?: string;
  /** How many bytes the server announced for the base64 of all elements together. */
  announced?: number;
  /** What servers may make this process read. Without it only this answer has limits. */
  intake?: Intake;
};

type OpenElement = XmlElement & { pieces: Buffer[]; decoder: Base64Decoder | null };

const MIB = 1024 * 1024;
/** The most that one element may hold beside its base64, and what an answer may have between the wanted elements. */
const MAX_TEXT_BYTES = 32 * MIB;
/**
 * The most elements inside one wanted element. The longest list that is asked for, 512 changes, has about 5,000. Each
 * costs memory and time of the garbage collector, however short it is.
 */
const MAX_ELEMENTS = 10_000;
const ELEMENT_BYTES = 1_000;
const MAX_DEPTH = 100;
/** So many bytes are read before other work has a turn, and so many elements cost as much time as an answer of IMAP. */
const BYTES_AT_ONCE = 16 * 1024;
const ELEMENTS_PER_ANSWER = 4;

/**
 * The wanted elements in the order in which they end, over all documents of the stream. Throws a Problem when the bytes
 * end inside one.
 */
export async function* readElements(
  chunks: AsyncIterable<Buffer>,
  filter: ElementFilter,
): AsyncGenerator<XmlElement, void, undefined> {
  const complete: XmlElement[] = [];
  const reader = elementBuilder(filter, (element) => complete.push(element));
  const feed = xmlParser(reader);
  let ended: Problem | undefined;
  using share = filter.intake?.join((problem) => (ended = problem));
  let between = 0;
  for await (const chunk of inPieces(chunks)) {
    feed(chunk);
    between = complete.length > 0 || reader.heldBytes > 0 ? 0 : between + chunk.length;
    if (between > MAX_TEXT_BYTES) throw excessProblem(`over ${sizeText(MAX_TEXT_BYTES)} without an answer`);
    await share?.awaitTurn(reader.takeOpened() / ELEMENTS_PER_ANSWER + complete.length);
    while (complete.length > 0) yield* complete.splice(0, 1);
    await share?.hold(reader.heldBytes);
    if (ended) throw ended;
  }
  if (reader.depth > 0) throw new Problem("connect", "The connection was cut in the middle of an answer");
}

async function* inPieces(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
  for await (const chunk of chunks)
    for (let at = 0; at < chunk.length; at += BYTES_AT_ONCE) yield chunk.subarray(at, at + BYTES_AT_ONCE);
}

function elementBuilder(filter: ElementFilter, onElement: (element: XmlElement) => void) {
  const names = new Set(filter.names);
  const open: OpenElement[] = [];
  const outside: string[] = [];
  const maxBase64 = maxContentBytes(filter.announced ?? 0);
  let [size, elements, base64Size, opened] = [0, 0, 0, 0];
  const countBytes = (bytes: number) => {
    size += bytes;
    if (size > MAX_TEXT_BYTES) throw excessProblem(`an element of over ${sizeText(MAX_TEXT_BYTES)}`);
  };
  const countElement = (attributes: Attributes) => {
    elements++;
    if (elements > MAX_ELEMENTS) throw excessProblem(`an element with over ${MAX_ELEMENTS} others inside`);
    countBytes(ELEMENT_BYTES + attributeBytes(attributes));
  };
  /** Four letters are three bytes. */
  const countBase64 = (letters: number) => {
    base64Size += (letters / 4) * 3;
    if (base64Size > maxBase64) throw excessProblem(`content of over ${sizeText(maxBase64)}`);
  };
  return {
    get depth() {
      return open.length + outside.length;
    },
    /** Bytes of the elements that are not complete yet. */
    get heldBytes() {
      return open.length > 0 ? size + base64Size : 0;
    },
    /** How many elements were opened since the last call. */
    takeOpened() {
      const count = opened;
      opened = 0;
      return count;
    },
    opened(name: string, attributes: Attributes) {
      if (open.length + outside.length >= MAX_DEPTH) throw protocolProblem("too many elements inside each other");
      opened++;
      if (open.length === 0 && !names.has(name)) {
        outside.push(name);
        return;
      }
      countElement(attributes);
      const decoder = name === filter.base64 ? base64Decoder() : null;
      open.push({ name, attributes, text: "", bytes: null, children: [], pieces: [], decoder });
    },
    text(bytes: Buffer) {
      const inner = open.at(-1);
      if (!inner) return;
      if (inner.decoder) {
        countBase64(bytes.length);
        inner.decoder.write(bytes);
        return;
      }
      countBytes(bytes.length);
      // A copy, because a few letters must not keep a whole network chunk in memory.
      inner.pieces.push(Buffer.from(bytes));
    },
    closed(name: string) {
      const inner = open.pop();
      if ((inner?.name ?? outside.pop()) !== name) throw protocolProblem("elements that cross each other");
      if (!inner) return;
      const element = toElement(inner);
      const parent = open.at(-1);
      if (parent) return void parent.children.push(element);
      [size, elements, base64Size] = [0, 0, 0];
      onElement(element);
    },
  };
}

function attributeBytes(attributes: Attributes): number {
  let bytes = 0;
  for (const name in attributes) bytes += name.length + (attributes[name]?.length ?? 0);
  return bytes;
}

function toElement({ name, attributes, children, pieces, decoder }: OpenElement): XmlElement {
  // Between elements there is only white space.
  const text = children.length > 0 ? "" : unescapeXml(Buffer.concat(pieces).toString("utf8"));
  return { name, attributes, text, bytes: decoder ? decoder.end() : null, children };
}

/** The first element of that name inside, at any depth, in document order. */
export function findElement(element: XmlElement, name: string): XmlElement | undefined {
  for (const child of element.children) {
    const found = child.name === name ? child : findElement(child, name);
    if (found) return found;
  }
  return undefined;
}

/** All elements of that name inside, at any depth but not inside each other. */
export function findElements(element: XmlElement, name: string): XmlElement[] {
  return element.children.flatMap((child) => (child.name === name ? [child] : findElements(child, name)));
}

/** The text of the first element of that name inside, trimmed; null if there is none. */
export function findText(element: XmlElement, name: string): string | null {
  return findElement(element, name)?.text.trim() ?? null;
}
