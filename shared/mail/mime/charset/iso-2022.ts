/**
 * Seven-bit charsets that switch by escape sequences: ISO-2022-JP, -KR and -CN (RFC 1468, RFC 1554, RFC 1557, RFC 1922)
 * and HZ (RFC 1843). No runtime decodes all of them, so each run is rewritten as EUC, which a decoder accepts.
 */

export type Family = "euc-jp" | "euc-kr" | "gb18030";
/**
 * Gets a run of bytes in one EUC charset, or in ASCII and half-width katakana, which euc-jp contains too. The bytes are
 * valid until it returns, because a message may have millions of runs.
 */
export type TakeRun = (name: Family, bytes: Buffer) => void;

type Shape = {
  family: Family;
  /** Bytes of one character. */ width: 1 | 2;
  /** What EUC puts in front of a character. */ prefix?: number;
};

const [ESC, SO, SI, LF] = [0x1b, 0x0e, 0x0f, 0x0a];
const KANA: Shape = { family: "euc-jp", width: 1, prefix: 0x8e };

/** What the sequence after ESC selects. Undefined means ASCII or JIS-Roman. */
const SELECTIONS: ReadonlyMap<string, Shape | undefined> = new Map<string, Shape | undefined>([
  ["(B", undefined],
  ["(J", undefined],
  ["(H", undefined],
  ["(I", KANA],
  ["$@", { family: "euc-jp", width: 2 }],
  ["$B", { family: "euc-jp", width: 2 }],
  ["$(B", { family: "euc-jp", width: 2 }],
  ["$(@", { family: "euc-jp", width: 2 }],
  ["$(O", { family: "euc-jp", width: 2 }],
  ["$(Q", { family: "euc-jp", width: 2 }],
  ["$(D", { family: "euc-jp", width: 2, prefix: 0x8f }],
  ["$A", { family: "gb18030", width: 2 }],
  ["$(A", { family: "gb18030", width: 2 }],
  ["$(C", { family: "euc-kr", width: 2 }],
]);
/** What SO switches to after this escape sequence. */
const SHIFTED: ReadonlyMap<string, Shape> = new Map<string, Shape>([
  ["$)C", { family: "euc-kr", width: 2 }],
  ["$)A", { family: "gb18030", width: 2 }],
  ["$)E", { family: "gb18030", width: 2 }],
  [")I", KANA],
]);

/** Rewrites any ISO 2022 variant. Invalid bytes become replacement characters. */
export function splitIso2022(bytes: Buffer, take: TakeRun): void {
  const writer = runWriter(bytes.length, take);
  let [selected, shifted, inShift, at]: [Shape | undefined, Shape, boolean, number] = [undefined, KANA, false, 0];
  while (at < bytes.length) {
    const byte = bytes[at] ?? 0;
    const sequence = byte === ESC ? escapeAt(bytes, at + 1) : undefined;
    if (sequence !== undefined) {
      if (SELECTIONS.has(sequence)) selected = SELECTIONS.get(sequence);
      shifted = SHIFTED.get(sequence) ?? shifted;
      at += 1 + sequence.length;
    } else if (byte === SO || byte === SI) {
      inShift = byte === SO;
      at++;
    } else {
      const shape = inShift ? shifted : selected;
      // The end of a line ends a shift (RFC 1922). Japanese charsets are often left open over several lines.
      if (byte === LF) inShift = false;
      at += shape && byte > 0x20 && byte < 0x7f ? writer.character(shape, bytes, at) : writer.plain(byte);
    }
  }
  writer.end();
}

function escapeAt(bytes: Buffer, at: number): string | undefined {
  for (const length of [3, 2]) {
    const sequence = bytes.toString("latin1", at, at + length);
    if (SELECTIONS.has(sequence) || SHIFTED.has(sequence)) return sequence;
  }
  return undefined;
}

/** Rewrites HZ: `~{` and `~}` switch, `~~` is a tilde, and a tilde before a line break joins the lines. */
export function splitHz(bytes: Buffer, take: TakeRun): void {
  const writer = runWriter(bytes.length, take);
  const shape: Shape = { family: "gb18030", width: 2 };
  let [chinese, at] = [false, 0];
  while (at < bytes.length) {
    const pair = bytes.toString("latin1", at, at + 2);
    if (pair === "~{" || pair === "~}") {
      chinese = pair === "~{";
      at += 2;
    } else if (pair === "~\n") at += 2;
    else if (pair === "~~") {
      writer.plain(0x7e);
      at += 2;
    } else {
      const byte = bytes[at] ?? 0;
      if (byte === LF) chinese = false;
      at += chinese && byte > 0x20 && byte < 0x7f ? writer.character(shape, bytes, at) : writer.plain(byte);
    }
  }
  writer.end();
}

function runWriter(length: number, take: TakeRun) {
  let family: Family = "euc-jp";
  // Half-width katakana need two bytes for one, JIS X 0212 three for two.
  const buffer = Buffer.alloc(2 * length);
  let to = 0;
  const end = () => {
    if (to > 0) take(family, buffer.subarray(0, to));
    to = 0;
  };
  return {
    /** Writes one character. Returns how many bytes it read. */
    character({ family: next, width, prefix }: Shape, bytes: Buffer, at: number): number {
      if (next !== family) {
        end();
        family = next;
      }
      const second = bytes[at + 1] ?? 0;
      // Half a character. No charset has this byte, so it becomes a replacement character.
      if (width === 2 && (second <= 0x20 || second >= 0x7f)) return this.plain(0xff);
      if (prefix !== undefined) buffer[to++] = prefix;
      for (let i = 0; i < width; i++) buffer[to++] = (bytes[at + i] ?? 0) | 0x80;
      return width;
    },
    plain(byte: number): number {
      buffer[to++] = byte;
      return 1;
    },
    end,
  };
}
