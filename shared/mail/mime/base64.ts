/** Decodes base64 (RFC 4648) from bytes to bytes, without a string of them. */

const EQUALS = 61;

/** The six bits of each letter of base64, and of `-` and `_` from the alphabet for URLs. 64 for anything else. */
const SIX_BITS = Uint8Array.from({ length: 256 }, (_, byte) => {
  const at = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_".indexOf(String.fromCharCode(byte));
  return at < 64 ? (at < 0 ? 64 : at) : at - 2;
});
const bitsAt = (bytes: Buffer, at: number) => SIX_BITS[bytes[at] ?? 0] ?? 64;

/** The most bytes that so many letters can stand for. */
export const decodedLength = (letters: number): number => Math.ceil((letters * 3) / 4);

/**
 * Writes what the letters from `from` to `end` stand for to `decoded`, from `start` on. Returns where it ends. What is no letter is
 * skipped. `=` ends a unit: mail programs that encode in pieces leave some in the middle.
 */
export function decodeUnits(
  bytes: Buffer,
  { from, end }: { from: number; end: number },
  decoded: Buffer,
  start = 0,
): number {
  let at = from;
  let length = start;
  while (at < end) {
    const first = bitsAt(bytes, at);
    const second = bitsAt(bytes, at + 1);
    const third = bitsAt(bytes, at + 2);
    const fourth = bitsAt(bytes, at + 3);
    if ((first | second | third | fourth) < 64 && at + 4 <= end) {
      decoded[length++] = (first << 2) | (second >> 4);
      decoded[length++] = (second << 4) | (third >> 2);
      decoded[length++] = (third << 6) | fourth;
      at += 4;
      continue;
    }
    // A unit with something between its letters, or the last one.
    let unit = 0;
    let letters = 0;
    for (; at < end && letters < 4 && bytes[at] !== EQUALS; at++) {
      const bits = bitsAt(bytes, at);
      if (bits === 64) continue;
      unit = (unit << 6) | bits;
      letters++;
    }
    if (letters < 4) at++;
    // Two letters have one whole byte, three have two.
    unit <<= 6 * (4 - letters);
    for (let n = 0; n < letters - 1; n++) decoded[length++] = unit >> (16 - 8 * n);
  }
  return length;
}
