/** A message too large for one request: its files taken out, the rest still a whole message. */
import PostalMime from "postal-mime";
import { decodeTransfer } from "../../mime/body.ts";
import { BOUNDS, limitedList } from "../../mime/limits.ts";
import { type Field, readHeader, valueOf } from "../../mime/header.ts";
import { type Part, readTree } from "../../mime/tree.ts";

/** A file of a message. `bytes` decodes anew at each call, so that only the one that is on its way is held twice. */
export type File = {
  name: string;
  contentType: string;
  contentId: string | null;
  inline: boolean;
  bytes: () => Buffer;
};
export type Split = { rest: Buffer; files: File[] };

const CRLF = "\r\n";
const EMPTY_TEXT = "Content-Type: text/plain; charset=us-ascii\r\n\r\n";
const HEADER_LIMITS = { bytes: BOUNDS.headerBytes, fields: BOUNDS.fields, fieldBytes: BOUNDS.fieldBytes };
/** Smaller ones are not worth a request of their own. */
const SMALL_BYTES = 16 * 1024;

/** A leaf that can be taken out: `at` is where its delimiter begins, or 0 for a message that is nothing but this file. */
type Found = { part: Part; parent: Part | undefined; at: number; to: number };

/**
 * Takes files out of the message, the largest first, until the rest has at most `most` bytes, or none are left. What a signature or
 * encryption covers, and texts, stay where they are.
 */
export async function split(raw: Buffer, most: number): Promise<Split> {
  const header = readHeader(raw, { from: 0, to: raw.length }, HEADER_LIMITS, limitedList());
  const tree = readTree(raw, header, limitedList());
  if (isFile(tree)) return alone(raw, tree);
  const taken: Found[] = [];
  let size = raw.length;
  for (const found of [...filesIn(raw, tree)].toSorted((a, b) => b.to - b.at - (a.to - a.at))) {
    if (size <= most || found.to - found.at < SMALL_BYTES) break;
    taken.push(found);
    size -= found.to - found.at;
  }
  const files: File[] = [];
  for (const { part } of taken.toSorted((a, b) => a.at - b.at)) files.push(await fileOf(raw, part));
  return { rest: without(raw, taken), files };
}

/** A message that is one file and nothing else: the rest is its header over an empty text. */
async function alone(raw: Buffer, part: Part): Promise<Split> {
  const lines = raw
    .toString("latin1", 0, part.from)
    .trimEnd()
    .split(/\r?\n(?![ \t])/);
  const kept = lines.filter((line) => !/^content-/i.test(line)).join(CRLF);
  return { rest: Buffer.from(`${kept}${CRLF}${EMPTY_TEXT}`, "latin1"), files: [await fileOf(raw, part)] };
}

function* filesIn(raw: Buffer, parent: Part): Generator<Found> {
  const related = parent.media.type === "multipart/related";
  const open = related || parent.media.type === "multipart/mixed";
  if (!open && parent.media.type !== "multipart/alternative") return;
  for (const [index, part] of parent.children.entries()) {
    if (part.media.type.startsWith("multipart/")) yield* filesIn(raw, part);
    // The first part of a related one is what the others belong to.
    else if (open && isFile(part) && !(related && index === 0)) {
      const at = raw.lastIndexOf(`--${parent.media.params.get("boundary") ?? ""}`, part.from);
      if (at >= 0) yield { part, parent, at, to: afterLine(raw, part.to) };
    }
  }
}

function isFile({ fields, media }: Part): boolean {
  if (media.type.startsWith("multipart/")) return false;
  const disposition = valueOf(fields, "content-disposition") ?? "";
  return !media.type.startsWith("text/") || /^\s*attachment\b/i.test(disposition) || /\bfilename/i.test(disposition);
}

function afterLine(raw: Buffer, at: number): number {
  const crlf = raw[at] === 13 ? 2 : 1;
  return Math.min(at + crlf, raw.length);
}

/** The message without these parts; a multipart that would have none left gets an empty text. */
function without(raw: Buffer, taken: Found[]): Buffer {
  const pieces: Buffer[] = [];
  let from = 0;
  for (const { parent, at, to } of taken.toSorted((a, b) => a.at - b.at)) {
    pieces.push(raw.subarray(from, at));
    const all = parent && parent.children.every((child) => taken.some(({ part }) => part === child));
    const first = taken.find((one) => one.parent === parent)?.at === at;
    if (all && first) pieces.push(Buffer.from(`--${parent.media.params.get("boundary")}${CRLF}${EMPTY_TEXT}${CRLF}`));
    from = to;
  }
  pieces.push(raw.subarray(from));
  return Buffer.concat(pieces);
}

async function fileOf(raw: Buffer, part: Part): Promise<File> {
  const { fields, media } = part;
  const named = await PostalMime.parse(described(fields));
  const file = named.attachments[0];
  const id = valueOf(fields, "content-id")?.replace(/^\s*<|>\s*$/g, "");
  const inline = /^\s*inline\b/i.test(valueOf(fields, "content-disposition") ?? "");
  const nested = media.type.startsWith("message/") ? "message.eml" : "file";
  return {
    name: (file?.filename || media.params.get("name") || nested).replaceAll(/\p{Cc}/gu, " "),
    contentType: media.type,
    contentId: id || null,
    inline: id !== undefined && inline,
    bytes: () => decodeTransfer(raw.subarray(part.from, part.to), valueOf(fields, "content-transfer-encoding") ?? ""),
  };
}

/** A message of one empty file with these fields, from which the parser reads the file's name in all of its encodings. */
function described(fields: Field[]): string {
  const wanted = fields.filter(({ name }) => name === "content-type" || name === "content-disposition");
  return `${wanted.map(({ name, value }) => `${name}: ${value}`).join(CRLF)}${CRLF}${CRLF}`;
}
