/** Transfer encodings of parts (RFC 2045 section 6), decoded from any bytes in linear time and without a copy per line. */

const [LF, CR, EQUALS] = [10, 13, 61];

/** The decoded content. Unknown encodings, and 7bit, 8bit and binary, are the bytes as they are. Never throws. */
export function decodeTransfer(bytes: Buffer, encoding: string): Buffer {
  const short = encoding.slice(0, 100).toLowerCase();
  const name = /[a-z0-9-]+/.exec(short.replace(/\([^)]*\)/g, ""))?.[0];
  if (name === "base64") return decodeBase64(bytes);
  if (name === "quoted-printable") return decodeQuotedPrintable(bytes);
  return bytes;
}

// `=` ends a unit; mailers that encode in pieces leave some in the middle, and decoders stop at the first one.
function decodeBase64(bytes: Buffer): Buffer {
  const text = bytes.toString("latin1");
  const padding = text.indexOf("=");
  if (padding < 0 || !/[A-Za-z0-9+/]/.test(text.slice(padding))) return Buffer.from(text, "base64");
  const decoded = Buffer.alloc(Math.ceil((text.length * 3) / 4));
  let [length, at] = [0, 0];
  while (at < text.length) {
    const end = text.indexOf("=", at);
    const stop = end < 0 ? text.length : end;
    if (stop > at) length += decoded.write(text.slice(at, stop), length, "base64");
    at = stop + 1;
  }
  return decoded.subarray(0, length);
}

function decodeQuotedPrintable(bytes: Buffer): Buffer {
  const decoded = Buffer.alloc(bytes.length);
  let [length, at] = [0, 0];
  while (at < bytes.length) {
    const byte = bytes[at] ?? 0;
    const skip = byte === EQUALS ? softBreak(bytes, at + 1) : 0;
    const value = byte === EQUALS && skip === 0 ? escaped(bytes, at + 1) : -1;
    if (skip > 0) at = skip;
    else {
      decoded[length++] = value < 0 ? byte : value;
      at += value < 0 ? 1 : 3;
    }
  }
  return decoded.subarray(0, length);
}

// Where the line after a soft line break begins, 0 when there is none. White space may have been added behind the `=`.
function softBreak(bytes: Buffer, from: number): number {
  let at = from;
  while (at - from < 80 && (bytes[at] === 32 || bytes[at] === 9)) at++;
  if (at >= bytes.length) return at;
  if (bytes[at] === CR && bytes[at + 1] === LF) return at + 2;
  return bytes[at] === LF ? at + 1 : 0;
}

function escaped(bytes: Buffer, at: number): number {
  const [high, low] = [hex(bytes[at]), hex(bytes[at + 1])];
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

function hex(byte: number | undefined): number {
  if (byte === undefined) return -1;
  if (byte >= 48 && byte <= 57) return byte - 48;
  const letter = byte | 32;
  return letter >= 97 && letter <= 102 ? letter - 87 : -1;
}
