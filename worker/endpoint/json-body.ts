/**
 * JSON bodies with files and long texts inside. A large one is not part of the JSON's text: of a file no copy is made,
 * and a text is written in pieces, because a message may have texts whose JSON is six times as long.
 */
import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import type { Body, Pieces } from "./body.ts";

/** A smaller file costs less as a part of the text. */
const LARGE_BYTES = 192 * 1024;
/** A longer text is written in pieces of this many characters. Other work gets its turn between them. */
const PIECE_CHARACTERS = 128 * 1024;

export type FilesInJson = {
  /** What stands in the value for this file. */
  base64(file: Uint8Array): string;
  /** The body of the value as JSON, with all files in base64. `change` gets the JSON with marks for what is large. */
  write(value: object, change?: (json: string) => string): Promise<Body>;
};

/** For one value, made of a message of so many bytes. Its files must be named in the order in which they stand in it, each once. */
export function filesInJson(messageBytes: number): FilesInJson {
  const files: Uint8Array[] = [];
  const mark = randomUUID();
  return {
    base64(file) {
      if (file.length < LARGE_BYTES) return Buffer.from(file.buffer, file.byteOffset, file.length).toString("base64");
      files.push(file);
      return mark;
    },
    async write(value, change = (json) => json) {
      const large: (Uint8Array | string)[] = [];
      const left = files.values();
      const takeLarge = (_: string, member: unknown) => {
        const isText = typeof member === "string" && member.length > PIECE_CHARACTERS;
        const found = member === mark ? left.next().value : isText ? member : undefined;
        if (found === undefined) return member;
        large.push(found);
        return mark;
      };
      // Looking at each member takes time. Only a large message has long texts; a small one may hold a large file compressed.
      const json =
        files.length > 0 || messageBytes > LARGE_BYTES ? JSON.stringify(value, takeLarge) : JSON.stringify(value);
      // Bytes from the start: signing, counting and sending would each encode a string again.
      if (large.length === 0) return Buffer.from(change(json));
      const pieces: Pieces["pieces"] = [];
      for (const [index, text] of change(json).split(mark).entries()) {
        pieces.push(Buffer.from(text));
        const next = large[index];
        // No character of base64 is escaped in JSON.
        if (typeof next === "string") pieces.push(...(await piecesOf(next)));
        else if (next) pieces.push({ base64: next });
      }
      return { pieces };
    },
  };
}

/** A text as it stands between the quotes of a JSON string. */
async function piecesOf(text: string): Promise<Buffer[]> {
  const pieces: Buffer[] = [];
  for (let at = 0; at < text.length;) {
    // Both halves of a character stay together.
    const end = at + PIECE_CHARACTERS;
    const next = isFirstHalf(text, end - 1) ? end + 1 : end;
    pieces.push(Buffer.from(JSON.stringify(text.slice(at, next)).slice(1, -1)));
    at = next;
    await setImmediate();
  }
  return pieces;
}

function isFirstHalf(text: string, at: number): boolean {
  return (text.charCodeAt(at) & 0xfc00) === 0xd800;
}
