/** Marked secrets, and the search for any part of them in any form. */
import { createHash, randomBytes } from "node:crypto";

/** A password with everything that has to be quoted, escaped or encoded somewhere, different in each place. */
export function markedPassword(name: string): string {
  const unique = createHash("sha256").update(name).digest("hex").slice(0, 8);
  return `Mk${unique}"p\\äß&=%+Щ-${randomBytes(4).toString("hex")}`;
}

const windows = (text: string, length: number) =>
  Array.from({ length: Math.max(1, text.length - length + 1) }, (_, at) => text.slice(at, at + length));

/** The pieces with `size` characters of a text, in each form. */
function piecesOf(secret: string, size: number): string[] {
  const bytes = Buffer.from(secret);
  const base64 = [0, 1, 2].flatMap((skip) => {
    const whole = bytes.subarray(skip, bytes.length - ((bytes.length - skip) % 3));
    return windows(whole.toString("base64"), Math.ceil((size * 4) / 3) + 2);
  });
  return [
    ...windows(secret, size),
    ...windows([...secret].toReversed().join(""), size),
    ...windows(JSON.stringify(secret).slice(1, -1), size + 2),
    ...windows(encodeURIComponent(secret), 2 * size),
    ...windows(bytes.toString("latin1"), size + 2),
    ...windows(bytes.toString("hex"), 2 * size + 2),
    ...base64,
  ];
}

const HEAD = 4;

/** Where parts of so many characters of the secrets are in these texts: one line each, and at most twenty. */
export function findMarks(secrets: Record<string, string>, texts: Record<string, string>, size: number): string[] {
  const pieces = Object.entries(secrets).flatMap(([what, secret]) =>
    [...new Set(piecesOf(secret, size))].map((piece) => ({ what, piece })),
  );
  const byHead = Map.groupBy(pieces, ({ piece }) => piece.slice(0, HEAD));
  const found = new Map<string, string>();
  for (const [where, text] of Object.entries(texts)) {
    for (let at = 0; at < text.length; at++) {
      const here = byHead.get(text.slice(at, at + HEAD))?.find(({ piece }) => text.startsWith(piece, at));
      if (here) found.set(`${here.what} in ${where}`, text.slice(Math.max(0, at - 80), at + 60));
    }
  }
  return [...found].slice(0, 20).map(([place, around]) => `${place}: ${around}`);
}
