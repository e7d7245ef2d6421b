/** The body of a request: text, or pieces that are made while they are written, so that a large message is never whole in memory as base64. */

/** `bytes` is the exact length of all pieces, which are made anew at each call. */
export type Pieces = { bytes: number; pieces: () => Iterable<Buffer> };
export type Body = string | Pieces;

/** Where something else goes in a text; no XML can hold it. */
export const HOLE = "\0";
/** A multiple of three, so that only the last piece is padded. */
const PIECE_BYTES = 384 * 1024;

export function bytesOf(body: Body): number {
  return typeof body === "string" ? Buffer.byteLength(body) : body.bytes;
}

export function piecesOf(body: Body): Iterable<Buffer> {
  return typeof body === "string" ? [Buffer.from(body)] : body.pieces();
}

/** The text with `inner` in place of its hole; a text stays one. */
export function placed(text: string, inner: Body): Body {
  const [before = "", after = ""] = text.split(HOLE);
  if (typeof inner === "string") return before + inner + after;
  const parts: Body[] = [before, inner, after];
  return {
    bytes: parts.reduce((sum, part) => sum + bytesOf(part), 0),
    *pieces() {
      for (const part of parts) yield* piecesOf(part);
    },
  };
}

/** The content in base64. */
export function base64Of(content: Buffer): Pieces {
  return {
    bytes: 4 * Math.ceil(content.length / 3),
    *pieces() {
      for (let at = 0; at < content.length; at += PIECE_BYTES)
        yield Buffer.from(content.toString("base64", at, at + PIECE_BYTES), "latin1");
    },
  };
}
