/** uuencode (POSIX.1): as the transfer encoding of a part, and for files inside a text, as before MIME. */

/** A file from a text. Its name is empty if it had none. */
export type EncodedFile = { name: string; content: Buffer };

const BEGIN = /^begin(?:-base64)? [0-7]{3,4}(?: (.*))?$/;
const MAX_FILES = 500;

/**
 * Removes the files from a text (one character per byte): each from its `begin` line to its `end`. If one of these is
 * missing, or a line between them is not encoded, the text stays as it is.
 */
export function takeFiles(text: string): { text: string; files: EncodedFile[] } {
  const files: EncodedFile[] = [];
  if (!/^begin(?:-base64)? [0-7]{3,4}\b/m.test(text)) return { text, files };
  let [rest, kept, at] = ["", 0, 0];
  while (at < text.length && files.length < MAX_FILES) {
    const line = lineAt(text, at);
    const begin = BEGIN.exec(line.text);
    const file = begin ? readLines(text, line.next, line.text.startsWith("begin-base64")) : undefined;
    if (file) {
      rest += text.slice(kept, at);
      files.push({ name: begin?.[1]?.trim() ?? "", content: Buffer.concat(file.lines) });
      kept = file.next;
    }
    at = file?.next ?? line.next;
  }
  return { text: rest + text.slice(kept), files };
}

/** Decodes a part that is encoded as a whole. If that fails, the bytes come back unchanged. */
export function decodeUuencode(bytes: Buffer): Buffer {
  const file = takeFiles(bytes.toString("latin1")).files[0];
  return file ? file.content : bytes;
}

/** The name in the `begin` line of an encoded part. */
export function uuencodedName(bytes: Buffer): string | undefined {
  return takeFiles(bytes.toString("latin1")).files[0]?.name;
}

function readLines(text: string, from: number, base64: boolean): { lines: Buffer[]; next: number } | undefined {
  const lines: Buffer[] = [];
  for (let at = from; at < text.length;) {
    const line = lineAt(text, at);
    if (line.text === "end" || line.text === "====") return lines.length > 0 ? { lines, next: line.next } : undefined;
    const decoded = base64 ? decodeBase64Line(line.text) : decodeLine(line.text);
    if (!decoded) return undefined;
    lines.push(decoded);
    at = line.next;
  }
  return undefined;
}

function lineAt(text: string, at: number): { text: string; next: number } {
  const lf = text.indexOf("\n", at);
  const next = lf < 0 ? text.length : lf + 1;
  let end = next;
  while (end > at && /[\r\n]/.test(text.charAt(end - 1))) end--;
  return { text: text.slice(at, end), next };
}

// The first character gives the number of bytes in the line. Blanks at its end may have been lost on the way.
function decodeLine(line: string): Buffer | undefined {
  if (line === "") return Buffer.alloc(0);
  if (!/^[ -`]+$/.test(line)) return undefined;
  const length = (line.charCodeAt(0) - 32) & 63;
  const needed = Math.ceil(length / 3) * 4;
  if (line.length - 1 > needed + 4) return undefined;
  const bytes = Buffer.alloc(needed);
  for (let at = 0; at < needed; at++) bytes[at] = ((line.charCodeAt(1 + at) || 32) - 32) & 63;
  const decoded = Buffer.alloc((needed / 4) * 3);
  for (let from = 0, to = 0; from < needed; from += 4, to += 3) {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.subarray(from, from + 4);
    decoded[to] = (a << 2) | (b >> 4);
    decoded[to + 1] = (b << 4) | (c >> 2);
    decoded[to + 2] = (c << 6) | d;
  }
  return decoded.subarray(0, length);
}

function decodeBase64Line(line: string): Buffer | undefined {
  return /^[A-Za-z0-9+/]*={0,2}$/.test(line) ? Buffer.from(line, "base64") : undefined;
}
