/**
 * The text of RTF: the HTML that Outlook wrapped in it (MS-OXRTFEX), else its plain text. It takes one pass;
 * formatting, pictures and objects are left out.
 */

/** Decodes bytes in the Windows code page of this number. */
export type DecodeCodepage = (bytes: Buffer, codepage: number) => string;

/** `isHtml`: the RTF wraps a body that was written in HTML, and `text` is that HTML. */
export type RtfContent = { text: string; isHtml: boolean };

/** The settings of a group. A nested group starts with a copy. */
type State = {
  hidden: boolean;
  inTag: boolean;
  htmlrtf: boolean;
  unicodeSkip: number;
  codepage: number;
  fontTable: boolean;
};
type Reader = {
  rtf: string;
  at: number;
  state: State;
  stack: State[];
  isHtml: boolean;
  codepage: number;
  fonts: Map<number, number>;
  font: number;
  /** How many characters to skip after a Unicode character. Old programs show them instead of it. */
  skip: number;
  pieces: string[];
  /** Bytes, as one character each, that are not decoded yet: a character may have two bytes. */
  pending: string;
  pendingCodepage: number;
  /** The number of open groups beyond the depth limit. They have no state of their own. */
  deeper: number;
  decode: DecodeCodepage;
};

const MAX_GROUPS = 500;

/** Groups without body text. A group that starts with `\*` has none either. */
const HIDDEN = new Set(
  (
    "fonttbl colortbl stylesheet info pict object header footer headerl headerr headerf " +
    "footerl footerr footerf footnote listtable listoverridetable rsidtbl filetbl revtbl xe tc themedata"
  ).split(" "),
);
// prettier-ignore
const SYMBOLS: Record<string, string> = {
  par: "\n", line: "\n", sect: "\n", page: "\n", row: "\n", tab: "\t", cell: "\t",
  emdash: "\u2014", endash: "\u2013", emspace: "\u2003", enspace: "\u2002", bullet: "\u2022",
  lquote: "\u2018", rquote: "\u2019", ldblquote: "\u201c", rdblquote: "\u201d",
};
/** The code pages of font charsets (RTF 1.9.1, \fcharset). */
// prettier-ignore
const FONT_CODEPAGES: Record<number, number> = {
  128: 932, 129: 949, 130: 1361, 134: 936, 136: 950, 161: 1253, 162: 1254, 163: 1258, 177: 1255, 178: 1256,
  186: 1257, 204: 1251, 222: 874, 238: 1250,
};
const CONTROL_WORD = /([a-zA-Z]{1,40})(-?\d{1,10})? ?/y;

/** Parses RTF. Undefined if the bytes are none. */
export function readRtf(bytes: Buffer, decode: DecodeCodepage): RtfContent | undefined {
  const rtf = bytes.toString("latin1");
  if (!rtf.startsWith("{\\rtf")) return undefined;
  const isHtml = /\\fromhtml1?(?!\d)/.test(rtf.slice(0, 4096));
  const state = { hidden: false, inTag: false, htmlrtf: false, unicodeSkip: 1, codepage: 0, fontTable: false };
  const reader: Reader = {
    rtf,
    at: 0,
    state,
    stack: [],
    isHtml,
    codepage: 1252,
    fonts: new Map(),
    font: 0,
    skip: 0,
    pieces: [],
    pending: "",
    pendingCodepage: 0,
    deeper: 0,
    decode,
  };
  while (reader.at < rtf.length) readNext(reader);
  flush(reader);
  return { text: reader.pieces.join(""), isHtml };
}

const PLAIN_RUN = /[^\\{}\r\n]+/y;

function readNext(reader: Reader): void {
  PLAIN_RUN.lastIndex = reader.at;
  const run = PLAIN_RUN.exec(reader.rtf)?.[0];
  if (run !== undefined) {
    reader.at += run.length;
    return putBytes(reader, run);
  }
  const character = reader.rtf.charAt(reader.at++);
  if (character === "\\") return readControl(reader);
  if (character === "{") beginGroup(reader);
  else if (character === "}") endGroup(reader);
}

function beginGroup(reader: Reader): void {
  reader.skip = 0;
  if (reader.stack.length < MAX_GROUPS) reader.stack.push({ ...reader.state });
  else reader.deeper++;
}

function endGroup(reader: Reader): void {
  reader.skip = 0;
  if (reader.deeper > 0) reader.deeper--;
  else reader.state = reader.stack.pop() ?? reader.state;
}

function readControl(reader: Reader): void {
  CONTROL_WORD.lastIndex = reader.at;
  const match = CONTROL_WORD.exec(reader.rtf);
  if (!match) return readSymbol(reader);
  reader.at = CONTROL_WORD.lastIndex;
  const [, word = "", digits] = match;
  applyWord(reader, word, digits === undefined ? undefined : Number(digits));
}

function readSymbol(reader: Reader): void {
  const symbol = reader.rtf.charAt(reader.at++);
  if (symbol === "'") {
    const value = Number.parseInt(reader.rtf.slice(reader.at, reader.at + 2), 16);
    reader.at += 2;
    if (!Number.isNaN(value)) putBytes(reader, String.fromCharCode(value));
  } else if (symbol === "*") startIgnorable(reader);
  else if (symbol === "~") put(reader, reader.isHtml ? "&nbsp;" : "\u00a0");
  else if (symbol === "_") put(reader, "\u2011");
  else if (symbol === "\r" || symbol === "\n") put(reader, "\n");
  else if (/[\\{}]/.test(symbol)) putBytes(reader, symbol);
}

// `{\*\htmltag84 ...}` contains a piece of HTML. Any other group of this form is ignored.
function startIgnorable(reader: Reader): void {
  const isTag = reader.isHtml && reader.rtf.startsWith("\\htmltag", reader.at);
  if (isTag) reader.state.inTag = true;
  else reader.state.hidden = true;
}

const WORDS: Record<string, (reader: Reader, value: number | undefined) => void> = {
  u: (reader, value = 0) => {
    put(reader, String.fromCharCode(value & 0xffff));
    reader.skip = reader.state.unicodeSkip;
  },
  uc: (reader, value = 1) => {
    reader.state.unicodeSkip = Math.min(Math.max(value, 0), 10);
  },
  htmlrtf: (reader, value = 1) => {
    reader.state.htmlrtf = value !== 0;
  },
  ansicpg: (reader, value = 1252) => {
    reader.codepage = value;
  },
  f: (reader, value = 0) => {
    if (reader.state.fontTable) reader.font = value;
    else reader.state.codepage = reader.fonts.get(value) ?? 0;
  },
  fcharset: (reader, value = 0) => {
    const codepage = FONT_CODEPAGES[value];
    if (reader.state.fontTable && codepage !== undefined) reader.fonts.set(reader.font, codepage);
  },
  fonttbl: (reader) => {
    reader.state.fontTable = true;
  },
  bin: (reader, value = 0) => {
    reader.at += Math.max(value, 0);
  },
};

function applyWord(reader: Reader, word: string, value: number | undefined): void {
  if (HIDDEN.has(word)) reader.state.hidden = true;
  const symbol = SYMBOLS[word];
  if (symbol !== undefined) put(reader, symbol);
  else WORDS[word]?.(reader, value);
}

function isShown({ state, isHtml }: Reader): boolean {
  if (state.hidden) return false;
  return !isHtml || state.inTag || !state.htmlrtf;
}

function put(reader: Reader, text: string): void {
  if (reader.skip > 0) reader.skip--;
  else if (isShown(reader)) {
    flush(reader);
    reader.pieces.push(text);
  }
}

function putBytes(reader: Reader, bytes: string): void {
  const skipped = Math.min(reader.skip, bytes.length);
  reader.skip -= skipped;
  if (skipped === bytes.length || !isShown(reader)) return;
  const codepage = reader.state.codepage || reader.codepage;
  if (reader.pendingCodepage !== codepage) flush(reader);
  reader.pendingCodepage = codepage;
  reader.pending += bytes.slice(skipped);
}

function flush(reader: Reader): void {
  if (reader.pending === "") return;
  reader.pieces.push(reader.decode(Buffer.from(reader.pending, "latin1"), reader.pendingCodepage));
  reader.pending = "";
}
