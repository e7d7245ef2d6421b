/** Base64 (RFC 4648 section 4) of bytes as bytes. The runtime only makes strings, which stay in memory until its next collection. */

const LETTERS = Buffer.from("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
const PADDING = 61;
const letter = (value: number) => LETTERS[value & 63] ?? PADDING;

/** Writes the letters for all bytes to the start of `to`, which must have room. Returns how many there are. */
export function encodeBase64(bytes: Uint8Array, to: Uint8Array): number {
  const whole = bytes.length - (bytes.length % 3);
  let length = 0;
  for (let at = 0; at < whole; at += 3) {
    const unit = ((bytes[at] ?? 0) << 16) | ((bytes[at + 1] ?? 0) << 8) | (bytes[at + 2] ?? 0);
    to[length++] = letter(unit >> 18);
    to[length++] = letter(unit >> 12);
    to[length++] = letter(unit >> 6);
    to[length++] = letter(unit);
  }
  if (whole === bytes.length) return length;
  const [first = 0, second] = bytes.subarray(whole);
  const unit = (first << 16) | ((second ?? 0) << 8);
  to[length++] = letter(unit >> 18);
  to[length++] = letter(unit >> 12);
  to[length++] = second === undefined ? PADDING : letter(unit >> 6);
  to[length++] = PADDING;
  return length;
}
