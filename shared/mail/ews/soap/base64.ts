/** Base64 decoded as it comes in, in any cutting: what is kept beside the result is less than one group of four letters. */

export type Base64Decoder = { write(bytes: Buffer): void; end(): Uint8Array };

/** White space and character references (a line break may come as `&#xD;`) between the letters are left out. */
export function base64Decoder(): Base64Decoder {
  const pieces: Buffer[] = [];
  let rest = "";
  const decoded = (letters: string) => {
    if (letters.length > 0) pieces.push(Buffer.from(letters, "base64"));
  };
  return {
    write(bytes) {
      const text = rest + bytes.toString("latin1");
      const half = halfReference(text);
      const letters = text.slice(0, half).replaceAll(/&[^;]*;|[^A-Za-z0-9+/=]+/g, "");
      const whole = letters.length - (letters.length % 4);
      decoded(letters.slice(0, whole));
      rest = letters.slice(whole) + text.slice(half);
    },
    end() {
      decoded(rest);
      const all = Buffer.concat(pieces);
      pieces.length = 0;
      return all;
    },
  };
}

/** Where a character reference begins that is not whole yet; the end of the text where there is none. */
function halfReference(text: string): number {
  const from = text.lastIndexOf("&");
  return from === -1 || text.includes(";", from) ? text.length : from;
}
