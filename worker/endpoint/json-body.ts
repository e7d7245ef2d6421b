/** JSON bodies with files inside. A large file is not part of the text, so no copy of it is made. */
import { randomUUID } from "node:crypto";
import type { Body, Pieces } from "./body.ts";

/** A smaller file costs less as a part of the text. */
const LARGE_BYTES = 192 * 1024;

export type FilesInJson = {
  /** What stands in the value for this file. */
  base64(file: Uint8Array): string;
  /** The body of the value as JSON, with all files in base64. */
  fill(json: string): Body;
};

/** For one value. Its files must be named in the order in which they stand in it, each once. */
export function filesInJson(): FilesInJson {
  const large: Uint8Array[] = [];
  const mark = randomUUID();
  return {
    base64(file) {
      if (file.length < LARGE_BYTES) return Buffer.from(file.buffer, file.byteOffset, file.length).toString("base64");
      large.push(file);
      return mark;
    },
    fill(json) {
      // Bytes from the start: signing, counting and sending would each encode a string again.
      if (large.length === 0) return Buffer.from(json);
      // No character of base64 is escaped in JSON.
      const around = json.split(mark).map((text) => Buffer.from(text));
      const pieces = around.flatMap((text, index): Pieces["pieces"] => {
        const file = large[index];
        return file ? [text, { base64: file }] : [text];
      });
      return { pieces };
    },
  };
}
