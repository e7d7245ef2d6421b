/**
 * SOAP answers of any length, read as they come: the elements one asked for, each as a small tree as soon as its last byte is there.
 * A text in base64 is decoded on the way, so that a large message is never held as text.
 */
import { Problem } from "../../../contract/problem.ts";
import { base64Decoder, type Base64Decoder } from "./base64.ts";
import { type Attributes, markup, unescaped, unreadable } from "./xml.ts";

/** An element without its prefix. `text` is its own, `bytes` what its base64 stood for, where that was asked for. */
export type Element = {
  name: string;
  attributes: Attributes;
  text: string;
  bytes: Uint8Array | null;
  children: Element[];
};

export type Wanted = {
  /** Elements that are handed over whole; what lies around them is dropped. */
  names: readonly string[];
  /** The element inside them whose text is base64. */
  base64?: string;
};

type Open = Element & { pieces: Buffer[]; decoder: Base64Decoder | null };

/** What one element may hold beside its base64. */
const LARGEST_TEXT = 16 * 1024 * 1024;
const DEEPEST = 100;

/** The wanted elements in the order in which they end, whatever documents they stand in. Throws a Problem where the bytes end amid one. */
export async function* elementsOf(
  chunks: AsyncIterable<Buffer>,
  wanted: Wanted,
): AsyncGenerator<Element, void, undefined> {
  const whole: Element[] = [];
  const reader = treeReader(wanted, (element) => whole.push(element));
  const read = markup(reader);
  for await (const chunk of chunks) {
    read(chunk);
    while (whole.length > 0) yield* whole.splice(0, 1);
  }
  if (reader.depth > 0) throw new Problem("connect", "The connection was cut in the middle of an answer");
}

function treeReader(wanted: Wanted, hand: (element: Element) => void) {
  const names = new Set(wanted.names);
  const open: Open[] = [];
  const outside: string[] = [];
  let size = 0;
  const kept = (bytes: number) => {
    size += bytes;
    if (size > LARGEST_TEXT) throw unreadable("more than can be taken");
  };
  return {
    get depth() {
      return open.length + outside.length;
    },
    opened(name: string, attributes: Attributes) {
      if (open.length + outside.length >= DEEPEST) throw unreadable("too many elements inside each other");
      if (open.length === 0 && !names.has(name)) {
        outside.push(name);
        return;
      }
      kept(100);
      const decoder = name === wanted.base64 ? base64Decoder() : null;
      open.push({ name, attributes, text: "", bytes: null, children: [], pieces: [], decoder });
    },
    text(bytes: Buffer) {
      const inner = open.at(-1);
      if (!inner) return;
      if (inner.decoder) return inner.decoder.write(bytes);
      kept(bytes.length);
      // A copy: a few letters must not keep a chunk of the network in memory.
      inner.pieces.push(Buffer.from(bytes));
    },
    closed(name: string) {
      const inner = open.pop();
      if ((inner?.name ?? outside.pop()) !== name) throw unreadable("elements that cross each other");
      if (!inner) return;
      const element = elementOf(inner);
      const parent = open.at(-1);
      if (parent) return void parent.children.push(element);
      size = 0;
      hand(element);
    },
  };
}

function elementOf({ name, attributes, children, pieces, decoder }: Open): Element {
  // Between elements stands white space only.
  const text = children.length > 0 ? "" : unescaped(Buffer.concat(pieces).toString("utf8"));
  return { name, attributes, text, bytes: decoder ? decoder.end() : null, children };
}

/** The first element of that name inside, at any depth, in the order of the document. */
export function within(element: Element, name: string): Element | undefined {
  for (const child of element.children) {
    const found = child.name === name ? child : within(child, name);
    if (found) return found;
  }
  return undefined;
}

/** All elements of that name inside, at any depth but not inside each other. */
export function allWithin(element: Element, name: string): Element[] {
  return element.children.flatMap((child) => (child.name === name ? [child] : allWithin(child, name)));
}

/** The text of the first element of that name inside, trimmed; null where there is none. */
export function textWithin(element: Element, name: string): string | null {
  return within(element, name)?.text.trim() ?? null;
}
