/** Decodes base64 that arrives in chunks of any size. It holds back less than one group of four letters. */

/** `end` returns null if there was anything else than base64. */
export type Base64Decoder = { write(bytes: Buffer): void; end(): Uint8Array | null };

/** A longer reference to a character is none. */
const MAX_REFERENCE = 12;

/** Ignores white space and character references between the letters (a line break may come as `&#xD;`). */
export function base64Decoder(): Base64Decoder {
  const chunks: Buffer[] = [];
  let pending = "";
  let isMalformed = false;
  const decode = (letters: string) => {
    if (letters.length > 0) chunks.push(Buffer.from(letters, "base64"));
  };
  return {
    write(bytes) {
      const text = pending + bytes.toString("latin1");
      const incompleteAt = incompleteReferenceAt(text);
      const letters = text.slice(0, incompleteAt).replaceAll(/&[^;&]{0,12};|\s+/g, "");
      isMalformed ||= /[^A-Za-z0-9+/=]/.test(letters);
      const whole = letters.length - (letters.length % 4);
      decode(letters.slice(0, whole));
      pending = letters.slice(whole) + text.slice(incompleteAt);
    },
    end() {
      decode(pending);
      const all = Buffer.concat(chunks);
      chunks.length = 0;
      return isMalformed ? null : all;
    },
  };
}

/** Where an incomplete character reference at the end begins; the end of the text if there is none. */
function incompleteReferenceAt(text: string): number {
  const from = text.lastIndexOf("&");
  return from === -1 || text.length - from > MAX_REFERENCE || text.includes(";", from) ? text.length : from;
}
