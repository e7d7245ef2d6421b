/** Takes attachments out of a message that is too large for one request. The rest is still a whole message. */
import { decodeContent } from "../mime/content.ts";
import { namesFile, readDisposition, readFilename } from "../mime/files.ts";
import { MIME_LIMITS, limitedReasons } from "../mime/limits.ts";
import { readHeader, fieldValue } from "../mime/header.ts";
import { type Part, readTree } from "../mime/tree.ts";

/** An attachment. Each call of `bytes` decodes it again, so only the one that is being sent is in memory twice. */
export type Attachment = {
  name: string;
  contentType: string;
  contentId: string | null;
  inline: boolean;
  bytes: () => Buffer;
};
export type SplitMessage = { rest: Buffer; attachments: Attachment[] };

const CRLF = "\r\n";
const EMPTY_TEXT = "Content-Type: text/plain; charset=us-ascii\r\n\r\n";
const HEADER_LIMITS = {
  bytes: MIME_LIMITS.headerBytes,
  fields: MIME_LIMITS.fields,
  fieldBytes: MIME_LIMITS.fieldBytes,
};
/** Smaller attachments are not worth a request of their own. */
const MIN_ATTACHMENT_BYTES = 16 * 1024;

/** A part that can be taken out. `at` is where its delimiter begins, or 0 if the message is only this attachment. */
type AttachmentPart = { part: Part; parent: Part | undefined; at: number; to: number };

/**
 * Takes attachments out of the message, the largest first, until the rest has at most `maxBytes` or none are left.
 * Texts, and everything that a signature or encryption covers, stay.
 */
export function splitMessage(raw: Buffer, maxBytes: number): SplitMessage {
  const header = readHeader(raw, { from: 0, to: raw.length }, HEADER_LIMITS, limitedReasons());
  const tree = readTree(raw, header, limitedReasons());
  if (isAttachment(tree)) return splitSingleAttachment(raw, tree);
  const removed: AttachmentPart[] = [];
  let size = raw.length;
  for (const candidate of [...findAttachments(raw, tree)].toSorted((a, b) => b.to - b.at - (a.to - a.at))) {
    if (size <= maxBytes || candidate.to - candidate.at < MIN_ATTACHMENT_BYTES) break;
    removed.push(candidate);
    size -= candidate.to - candidate.at;
  }
  const attachments = removed.toSorted((a, b) => a.at - b.at).map(({ part }) => toAttachment(part));
  return { rest: removeParts(raw, removed), attachments };
}

/** A message that is only one attachment. The rest is its header with an empty text. */
function splitSingleAttachment(raw: Buffer, part: Part): SplitMessage {
  const lines = raw
    .toString("latin1", 0, part.from)
    .trimEnd()
    .split(/\r?\n(?![ \t])/);
  const remaining = lines.filter((line) => !/^content-/i.test(line)).join(CRLF);
  return {
    rest: Buffer.from(`${remaining}${CRLF}${EMPTY_TEXT}`, "latin1"),
    attachments: [toAttachment(part)],
  };
}

function* findAttachments(raw: Buffer, parent: Part): Generator<AttachmentPart> {
  const related = parent.media.type === "multipart/related";
  const removable = related || parent.media.type === "multipart/mixed";
  if (!removable && parent.media.type !== "multipart/alternative") return;
  for (const [index, part] of parent.children.entries()) {
    // A part of an entity that was encoded as a whole has no place of its own in the message.
    if (part.source !== raw) continue;
    if (part.boundary !== null) yield* findAttachments(raw, part);
    // The other parts of multipart/related belong to its first part.
    else if (removable && isAttachment(part) && !(related && index === 0)) {
      const at = raw.lastIndexOf(`--${parent.boundary}`, part.from);
      if (at >= 0) yield { part, parent, at, to: endOfLine(raw, part.to) };
    }
  }
}

function isAttachment(part: Part): boolean {
  if (part.boundary !== null) return false;
  return (
    !part.media.type.startsWith("text/") || readDisposition(part) === "attachment" || namesFile(part).inDisposition
  );
}

function endOfLine(raw: Buffer, at: number): number {
  const crlf = raw[at] === 13 ? 2 : 1;
  return Math.min(at + crlf, raw.length);
}

/** The message without these parts. A multipart without any part left gets an empty text. */
function removeParts(raw: Buffer, removed: AttachmentPart[]): Buffer {
  const pieces: Buffer[] = [];
  let from = 0;
  for (const { parent, at, to } of removed.toSorted((a, b) => a.at - b.at)) {
    pieces.push(raw.subarray(from, at));
    const all = parent && parent.children.every((child) => removed.some(({ part }) => part === child));
    const first = removed.find((one) => one.parent === parent)?.at === at;
    if (all && first) pieces.push(Buffer.from(`--${parent.boundary}${CRLF}${EMPTY_TEXT}${CRLF}`));
    from = to;
  }
  pieces.push(raw.subarray(from));
  return Buffer.concat(pieces);
}

function toAttachment(part: Part): Attachment {
  const { fields, media } = part;
  const id = fieldValue(fields, "content-id")?.trim().replace(/^<|>$/g, "");
  const nested = media.type.startsWith("message/") ? "message.eml" : "file";
  return {
    name: readFilename(part) ?? nested,
    contentType: media.type,
    contentId: id || null,
    inline: id !== undefined && readDisposition(part) === "inline",
    bytes: () => decodeContent(part),
  };
}
