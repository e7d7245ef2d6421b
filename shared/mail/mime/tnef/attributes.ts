/**
 * The attributes of a TNEF stream (MS-OXTNEF section 2.1): first those of the message, then those of each attachment.
 */

/** The attributes that the parser uses, by the lower half of their id. */
export const ATTRIBUTE = {
  subject: 0x8004,
  body: 0x800c,
  attachData: 0x800f,
  attachTitle: 0x8010,
  messageProperties: 0x9003,
  attachRendering: 0x9002,
  attachProperties: 0x9005,
  codepage: 0x9007,
} as const;

export type Attribute = { id: number; data: Buffer };

const SIGNATURE = 0x223e9f78;
const HEADER_BYTES = 6;
/** Level, id and length are before the data, and a checksum is after it. */
const PREFIX_BYTES = 9;
const CHECKSUM_BYTES = 2;

/** The attributes in order. Undefined if the bytes are no TNEF. The last one may be cut. */
export function readAttributes(bytes: Buffer): Attribute[] | undefined {
  if (bytes.length < HEADER_BYTES || bytes.readUInt32LE(0) !== SIGNATURE) return undefined;
  const attributes: Attribute[] = [];
  let at = HEADER_BYTES;
  while (at + PREFIX_BYTES <= bytes.length) {
    const level = bytes[at];
    // 1 is the message, 2 an attachment. Anything else is garbage after the end.
    if (level !== 1 && level !== 2) break;
    const id = bytes.readUInt32LE(at + 1) & 0xffff;
    const from = at + PREFIX_BYTES;
    const to = Math.min(from + bytes.readUInt32LE(at + 5), bytes.length);
    attributes.push({ id, data: bytes.subarray(from, to) });
    at = to + CHECKSUM_BYTES;
  }
  return attributes;
}
