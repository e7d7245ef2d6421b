/** JSON bodies with large files inside, made without blocking the event loop and without a second copy of a file. */
import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";

/** A shorter text costs less as a part of the whole. */
const LARGE_LETTERS = 256 * 1024;
const LETTERS_AT_ONCE = 4 * 1024 * 1024;

/**
 * The bytes of a value as JSON. `build` makes the value and passes each text in base64 through the function that it
 * gets, in the order in which they stand in the value.
 */
export async function encodeJson(build: (base64: (text: string) => string) => unknown): Promise<Buffer> {
  const large: string[] = [];
  const mark = randomUUID();
  const json = JSON.stringify(
    build((text) => {
      if (text.length < LARGE_LETTERS) return text;
      large.push(text);
      return mark;
    }),
  );
  if (large.length === 0) return Buffer.from(json);
  // No character of base64 is escaped in JSON, and each is one byte.
  const around = json.split(mark).map((text) => Buffer.from(text));
  const length = [...around, ...large].reduce((sum, one) => sum + one.length, 0);
  const body = Buffer.allocUnsafe(length);
  let at = 0;
  for (const [index, text] of around.entries()) {
    at += text.copy(body, at);
    at += await writeInTurns(body, at, large[index] ?? "");
  }
  return body;
}

async function writeInTurns(body: Buffer, start: number, text: string): Promise<number> {
  for (let from = 0; from < text.length; from += LETTERS_AT_ONCE) {
    body.write(text.slice(from, from + LETTERS_AT_ONCE), start + from, "latin1");
    await setImmediate();
  }
  return text.length;
}
