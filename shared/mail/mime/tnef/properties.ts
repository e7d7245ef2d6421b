/** MAPI properties in TNEF (MS-OXTNEF section 2.1.3.4), by id. Only the first value of each is kept. */

/** The properties that the parser uses (MS-OXPROPS). */
export const PROPERTY = {
  subject: 0x0037,
  senderName: 0x0c1a,
  senderSmtp: 0x5d01,
  clientSubmitTime: 0x0039,
  body: 0x1000,
  rtfCompressed: 0x1009,
  html: 0x1013,
  displayName: 0x3001,
  attachData: 0x3701,
  attachFilename: 0x3704,
  attachMethod: 0x3705,
  attachLongFilename: 0x3707,
  attachMimeTag: 0x370e,
  attachContentId: 0x3712,
  attachContentLocation: 0x3713,
  internetCodepage: 0x3fde,
} as const;

/** `text` is set for strings, `number` for whole numbers. `bytes` is the stored value. */
export type Property = { bytes: Buffer; text: string | undefined; number: number | undefined; isObject: boolean };
export type Properties = ReadonlyMap<number, Property>;

const TYPE = { int16: 2, int32: 3, object: 13, boolean: 11, string8: 30, unicode: 31, binary: 258 } as const;
/** Sizes of the types with a fixed size, with padding. */
const FIXED: ReadonlyMap<number, number> = new Map([
  [1, 0],
  [TYPE.int16, 4],
  [TYPE.int32, 4],
  [4, 4],
  [5, 8],
  [6, 8],
  [7, 8],
  [10, 4],
  [TYPE.boolean, 4],
  [20, 8],
  [64, 8],
  [72, 16],
]);
const VARIABLE = new Set<number>([TYPE.object, TYPE.string8, TYPE.unicode, TYPE.binary]);
const MULTIPLE = 0x1000;
const NAMED = 0x8000;
const NAME_IS_STRING = 1;

type Cursor = { bytes: Buffer; at: number };

/** Reads up to the first property that it cannot read. `decode` decodes bytes by the message's code page. */
export function readProperties(bytes: Buffer, decode: (bytes: Buffer) => string): Properties {
  const found = new Map<number, Property>();
  const cursor: Cursor = { bytes, at: 0 };
  const count = readUint32(cursor) ?? 0;
  for (let index = 0; index < count; index++) {
    const tag = readUint32(cursor);
    if (tag === undefined) break;
    const [type, id] = [tag & 0xffff, tag >>> 16];
    if (id >= NAMED && !skipName(cursor)) break;
    const values = readValues(cursor, type);
    if (!values) break;
    const [value] = values;
    if (value && !found.has(id)) found.set(id, toProperty(value, type & ~MULTIPLE, decode));
  }
  return found;
}

// A name is a GUID, then a number, or a string with its length.
function skipName(cursor: Cursor): boolean {
  cursor.at += 16;
  const kind = readUint32(cursor);
  const length = readUint32(cursor);
  if (kind === undefined || length === undefined) return false;
  if (kind === NAME_IS_STRING) cursor.at += pad(length);
  return cursor.at <= cursor.bytes.length;
}

function readValues(cursor: Cursor, type: number): Buffer[] | undefined {
  const single = type & ~MULTIPLE;
  const fixed = FIXED.get(single);
  if (fixed === undefined && !VARIABLE.has(single)) return undefined;
  const count = fixed === undefined || single !== type ? readUint32(cursor) : 1;
  if (count === undefined) return undefined;
  const values: Buffer[] = [];
  for (let index = 0; index < count; index++) {
    const length = fixed ?? readUint32(cursor);
    if (length === undefined || cursor.at + length > cursor.bytes.length) return undefined;
    // Only the first value is used.
    if (index === 0) values.push(cursor.bytes.subarray(cursor.at, cursor.at + length));
    if (length === 0 && fixed !== undefined) break;
    cursor.at += pad(length);
  }
  return values;
}

function toProperty(bytes: Buffer, type: number, decode: (bytes: Buffer) => string): Property {
  const number = bytes.length >= 4 && (type === TYPE.int32 || type === TYPE.int16) ? bytes.readUInt32LE(0) : undefined;
  const text = type === TYPE.unicode ? bytes.toString("utf16le") : type === TYPE.string8 ? decode(bytes) : undefined;
  return { bytes, text: text?.replace(/\0.*$/s, ""), number, isObject: type === TYPE.object };
}

function readUint32(cursor: Cursor): number | undefined {
  if (cursor.at + 4 > cursor.bytes.length) return undefined;
  cursor.at += 4;
  return cursor.bytes.readUInt32LE(cursor.at - 4);
}

function pad(length: number): number {
  return length + ((4 - (length % 4)) % 4);
}
