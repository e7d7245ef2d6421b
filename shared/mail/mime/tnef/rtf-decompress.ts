/** Compressed RTF (MS-OXRTFCP): the body of messages that were written as rich text in Outlook. */

const MAGIC = { compressed: 0x75465a4c, stored: 0x414c454d };
const HEADER_BYTES = 16;
const WINDOW = 4096;
/** The initial content of the window (section 2.1.2.1). */
const PRELOADED =
  "{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor MS Sans SerifSymbolArial" +
  "Times New RomanCourier{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx";

/**
 * The RTF. Undefined if the bytes are none. Cut input gives the part that is there. The output is at most nine times as
 * large as the input.
 */
export function decompressRtf(bytes: Buffer): Buffer | undefined {
  if (bytes.length < HEADER_BYTES) return undefined;
  const [rawSize, kind] = [bytes.readUInt32LE(4), bytes.readUInt32LE(8)];
  const packed = bytes.subarray(HEADER_BYTES);
  if (kind === MAGIC.stored) return packed.subarray(0, rawSize);
  return kind === MAGIC.compressed ? inflate(packed, rawSize) : undefined;
}

// Tokens come in groups of eight after a byte of flags: a literal byte, or twelve bits of offset and four bits of
// length.
function inflate(packed: Buffer, rawSize: number): Buffer {
  const window = Buffer.alloc(WINDOW);
  let write = window.write(PRELOADED, "latin1");
  const output = Buffer.alloc(Math.min(rawSize, packed.length * 9));
  let [length, at] = [0, 0];
  const put = (byte: number) => {
    output[length++] = byte;
    window[write] = byte;
    write = (write + 1) % WINDOW;
  };
  while (at < packed.length && length < output.length) {
    const flags = packed[at++] ?? 0;
    for (let bit = 0; bit < 8 && at < packed.length && length < output.length; bit++) {
      if ((flags & (1 << bit)) === 0) {
        put(packed[at++] ?? 0);
        continue;
      }
      if (at + 1 >= packed.length) return output.subarray(0, length);
      const reference = packed.readUInt16BE(at);
      at += 2;
      let read = reference >> 4;
      if (read === write) return output.subarray(0, length);
      for (let left = (reference & 0xf) + 2; left > 0 && length < output.length; left--) {
        put(window[read] ?? 0);
        read = (read + 1) % WINDOW;
      }
    }
  }
  return output.subarray(0, length);
}
