/** A fast path for headers without anything odd, which most are. All others take the way of header.ts. */

/** A field as it is in the header: its name, and the text after the colon up to the next field. */
type PlainField = { name: string; text: string };
/** `body` is where the body begins. `isAscii` is true if all fields have only ASCII without control characters. */
export type PlainHeader = { fields: PlainField[]; body: number; isAscii: boolean };

/** The header of a part fits into the first size, that of a message into the second. Longer ones are read slowly. */
const WINDOWS = [1024, 16 * 1024];
/** Visible ASCII without colons, quotes and brackets. */
const NAME = /^[!#-'*+\-./0-9?A-Z^_`a-z|~]+$/;
const LF = 10;

/**
 * The fields of the header that starts at `from`, and ends with an empty line before `to`. Undefined if a line is
 * neither a field nor continues one, if there are more than `maxFields`, or if there is no empty line.
 */
export function readPlainHeader(
  bytes: Buffer,
  { from, to }: { from: number; to: number },
  maxFields: number,
): PlainHeader | undefined {
  const text = readUpToEmptyLine(bytes, from, to);
  if (text === undefined) return undefined;
  const fields: PlainField[] = [];
  let at = 0;
  while (at < text.length) {
    const colon = text.indexOf(":", at);
    const name = text.slice(at, colon);
    if (colon < 0 || !NAME.test(name) || text.startsWith("//", colon + 1)) return undefined;
    let next = text.indexOf("\n", colon) + 1;
    while (text.startsWith(" ", next) || text.startsWith("\t", next)) next = text.indexOf("\n", next) + 1;
    fields.push({ name: name.toLowerCase(), text: text.slice(colon + 1, next) });
    at = next;
  }
  if (fields.length === 0 || fields.length > maxFields) return undefined;
  const end = from + text.length;
  return { fields, body: bytes[end] === LF ? end + 1 : end + 2, isAscii: !/[^\t\r\n -~]/.test(text) };
}

/** The lines before the first empty line, one character per byte. Undefined if there is none, or no line before it. */
function readUpToEmptyLine(bytes: Buffer, from: number, to: number): string | undefined {
  for (const size of WINDOWS) {
    const text = bytes.toString("latin1", from, Math.min(from + size, to));
    const [lf, crlf] = [text.indexOf("\n\n"), text.indexOf("\n\r\n")];
    const end = lf < 0 || crlf < 0 ? Math.max(lf, crlf) : Math.min(lf, crlf);
    if (end >= 0) return text.slice(0, end + 1);
    if (from + size >= to) return undefined;
  }
  return undefined;
}
