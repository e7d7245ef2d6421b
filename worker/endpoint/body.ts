/**
 * The body of a request. Files become base64 in small parts while the body is signed and sent, so that a large file is in memory once,
 * as the bytes that it has.
 */
import type { ClientRequest } from "node:http";
import { encodeBase64 } from "./base64.ts";

/** Text, bytes, or pieces. */
export type Body = string | Uint8Array | Pieces;
/** What follows one another: bytes as they are, and bytes that go out as base64. */
export type Pieces = { pieces: (Uint8Array | { base64: Uint8Array })[] };

/** Bytes of one part. A multiple of four, because four letters of base64 stand for three bytes. */
const PART_BYTES = 1024 * 1024;
const BYTES_AS_PART = (PART_BYTES / 4) * 3;

/** The length in bytes. */
export function bodyLength(body: Body): number {
  if (typeof body === "string" || body instanceof Uint8Array) return Buffer.byteLength(body);
  return body.pieces.reduce(
    (sum, piece) => sum + ("base64" in piece ? Math.ceil(piece.base64.length / 3) * 4 : piece.length),
    0,
  );
}

/** The bytes in parts of at most 1 MB. A part is gone when the next one is asked for. */
export function* bodyParts(body: Body): Generator<Uint8Array, void, undefined> {
  if (typeof body === "string") return yield* bodyParts(Buffer.from(body));
  const pieces = body instanceof Uint8Array ? [body] : body.pieces;
  let letters: Buffer | undefined;
  for (const piece of pieces) {
    if ("base64" in piece) {
      letters ??= Buffer.allocUnsafeSlow(PART_BYTES);
      for (let at = 0; at < piece.base64.length; at += BYTES_AS_PART)
        yield letters.subarray(0, encodeBase64(piece.base64.subarray(at, at + BYTES_AS_PART), letters));
    } else for (let at = 0; at < piece.length; at += PART_BYTES) yield piece.subarray(at, at + PART_BYTES);
  }
}

/** The first bytes, at most so many and one part. */
export function startOfBody(body: Body, most: number): Uint8Array {
  const parts: Uint8Array[] = [];
  let length = 0;
  for (const part of bodyParts(body)) {
    parts.push(Buffer.from(part));
    length += part.length;
    if (length >= most) break;
  }
  return Buffer.concat(parts).subarray(0, most);
}

/** Sends the body and ends the request. A large body goes out as fast as the other side reads. Resolves early when the request is closed. */
export async function sendBody(request: ClientRequest, body: Body): Promise<void> {
  if (typeof body === "string" || (body instanceof Uint8Array && body.length <= PART_BYTES)) {
    request.end(body);
    return;
  }
  let isClosed = false;
  const closed = new Promise<void>((resolve) =>
    request.once("close", () => {
      isClosed = true;
      resolve();
    }),
  );
  for (const part of bodyParts(body)) {
    const written = new Promise<void>((resolve) => request.write(part, () => resolve()));
    await Promise.race([written, closed]);
    if (isClosed) return;
  }
  request.end();
}
