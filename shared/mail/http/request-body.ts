/**
 * The body of a request: text, or chunks that are produced while they are written, so that a large message is never in
 * memory as base64 as a whole.
 */

/** `bytes` is the exact length of all chunks. Each call of `chunks` produces them again. */
export type ChunkedBody = { bytes: number; chunks: () => Iterable<Buffer> };
export type RequestBody = string | ChunkedBody;

/** Marks in a text where something else goes. No XML can contain it. */
export const PLACEHOLDER = "\0";
/** A multiple of three, so that only the last chunk has padding. */
const CHUNK_BYTES = 384 * 1024;

export function bodyByteLength(body: RequestBody): number {
  return typeof body === "string" ? Buffer.byteLength(body) : body.bytes;
}

export function bodyChunks(body: RequestBody): Iterable<Buffer> {
  return typeof body === "string" ? [Buffer.from(body)] : body.chunks();
}

/** The text with `inner` in place of the placeholder. If `inner` is text, the result is text. */
export function fillPlaceholder(text: string, inner: RequestBody): RequestBody {
  const [before = "", after = ""] = text.split(PLACEHOLDER);
  if (typeof inner === "string") return before + inner + after;
  const parts: RequestBody[] = [before, inner, after];
  return {
    bytes: parts.reduce((sum, part) => sum + bodyByteLength(part), 0),
    *chunks() {
      for (const part of parts) yield* bodyChunks(part);
    },
  };
}

/** The content in base64. */
export function base64Body(content: Buffer): ChunkedBody {
  return {
    bytes: 4 * Math.ceil(content.length / 3),
    *chunks() {
      for (let at = 0; at < content.length; at += CHUNK_BYTES)
        yield Buffer.from(content.toString("base64", at, at + CHUNK_BYTES), "latin1");
    },
  };
}
