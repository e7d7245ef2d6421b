/** PGP in a text (RFC 9580 section 6): whether it is encrypted or only signed. Nothing is decrypted or verified. */

/** What a text contains. Null without PGP, and for a block that is neither, such as a key. */
export type PgpContent = "encrypted" | "signed" | null;

const MAX_TEXT = 1024 * 1024;
/**
 * The armor header line, the armor headers and the start of the data. A quoted one (`> -----BEGIN`) belongs to another
 * message.
 */
const MESSAGE =
  /^-----BEGIN PGP MESSAGE(?:, PART [\d/]{1,12})?-----[ \t]*\r?\n(?:[A-Za-z]{1,30}: [^\r\n]{0,500}\r?\n){0,20}[ \t]*\r?\n([A-Za-z0-9+/]{2,})/m;
const SIGNED = /^-----BEGIN PGP (?:SIGNED MESSAGE|SIGNATURE)-----[ \t]*\r?\n/m;

/** Packet types (RFC 9580 section 5) that start an encrypted message: encrypted session keys, or encrypted data. */
const ENCRYPTED_PACKETS = new Set([1, 3, 9, 18, 20]);
/** Signature, one-pass signature, compressed and literal data. They need no key. */
const OPEN_PACKETS = new Set([2, 4, 8, 11]);

/** Looks for armored PGP in a text. The first packet decides what it is, not the armor header line. */
export function detectPgp(text: string): PgpContent {
  const limited = text.slice(0, MAX_TEXT);
  if (!limited.includes("-----BEGIN PGP ")) return null;
  const data = MESSAGE.exec(limited)?.[1];
  if (data !== undefined) {
    const packet = packetType(Buffer.from(data.slice(0, 8), "base64")[0] ?? 0);
    if (ENCRYPTED_PACKETS.has(packet)) return "encrypted";
    if (OPEN_PACKETS.has(packet)) return "signed";
  }
  return SIGNED.test(limited) ? "signed" : null;
}

// The first octet has bit 7 set. Bit 6 tells the new format from the old one (RFC 9580 section 4.2).
function packetType(octet: number): number {
  if ((octet & 0x80) === 0) return 0;
  return (octet & 0x40) === 0 ? (octet & 0x3f) >> 2 : octet & 0x3f;
}
