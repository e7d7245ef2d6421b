/**
 * Opens wrappers that need no key: S/MIME that is only signed or compressed, and winmail.dat. The content replaces its
 * wrapper in the tree of parts. What is encrypted, or cannot be read, stays as it is.
 */
import type { ParsedMessage } from "../../../contract/received.ts";
import { startsWithHeader } from "../boundaries.ts";
import { decodeContent } from "../content.ts";
import { readFilename } from "../files.ts";
import { readHeader } from "../header.ts";
import { MIME_LIMITS, type LimitedReasons } from "../limits.ts";
import { leaves, type Part, readTree } from "../tree.ts";
import { openCms } from "./cms.ts";
import { unwrapTnef } from "./winmail.ts";

/** The tree without wrappers, and how the message was signed or encrypted. */
export type Opened = { root: Part; signed: ParsedMessage["signed"]; encrypted: ParsedMessage["encrypted"] };

/**
 * Limits: the wrappers in one message, and their depth. Real messages have one or two, for example signed inside
 * winmail.dat.
 */
const MAX_OPENED = 10;
const MAX_DEPTH = 4;
const HEADER_LIMITS = {
  bytes: MIME_LIMITS.partHeaderBytes,
  fields: MIME_LIMITS.fields,
  fieldBytes: MIME_LIMITS.partFieldBytes,
};

type State = { opened: number; signed: Opened["signed"]; encrypted: Opened["encrypted"]; limited: LimitedReasons };

/** Opens the wrappers in a tree, within the limits. It changes the given tree. */
export function openWrapped(root: Part, limited: LimitedReasons): Opened {
  const state: State = { opened: 0, signed: null, encrypted: null, limited };
  // Outlook packs signed messages into winmail.dat, and signs what it has packed.
  const unpacked = unwrapTnef(root, limited);
  const opened = openPart(unpacked, { depth: 0, isRoot: true }, state);
  const winmail = unwrapTnef(opened, limited);
  const { signed, encrypted } = state;
  return { root: winmail, signed: signed ?? findSignature(winmail), encrypted: encrypted ?? findEncryption(winmail) };
}

function openPart(part: Part, place: { depth: number; isRoot: boolean }, state: State): Part {
  if (part.boundary !== null) {
    part.children = part.children.map((child) => openPart(child, { ...place, isRoot: false }, state));
    return part;
  }
  if (!mayBeCms(part)) return part;
  const decoded = decodeContent(part);
  // A signed or encrypted file (contract.pdf.p7m) is an attachment, not the body.
  const isBody = /^smime\.p7[a-z]$/i.test(readFilename(part, decoded) ?? "smime.p7m");
  if (!place.isRoot && !isBody) return part;
  const message = openCms(decoded);
  if (message.kind === "encrypted") state.encrypted = "smime";
  if (message.kind === "unknown") noteUnreadable(part, state);
  if (!("content" in message)) return part;
  const { content } = message;
  // Files are signed too. Content without a header is a body only if it is text and has the usual name of a body.
  const isEntity = content !== undefined && startsWithHeader(content, { from: 0, to: content.length });
  if (content && !isEntity && !(place.isRoot && isBody && !content.includes(0))) return part;
  if (!content || place.depth >= MAX_DEPTH || state.opened >= MAX_OPENED) {
    state.limited.add("S/MIME content over the limits kept as an attachment");
    return part;
  }
  state.opened++;
  if (message.kind === "signed") state.signed = "smime";
  const header = readHeader(content, { from: 0, to: isEntity ? content.length : 0 }, HEADER_LIMITS, state.limited);
  const inner = readTree(content, header, state.limited);
  return openPart(inner, { depth: place.depth + 1, isRoot: place.isRoot }, state);
}

const CMS_TYPE = /^application\/(?:x-)?pkcs7-mime$/;

function mayBeCms({ media }: Part): boolean {
  if (CMS_TYPE.test(media.type)) return true;
  const name = media.params.get("name") ?? "";
  // Gateways and some mail programs write a wrong type.
  return media.type === "application/octet-stream" && /^smime\.p7[mz]$/i.test(name.trim());
}

// If the content cannot be parsed, only the label tells what it is.
function noteUnreadable(part: Part, state: State): void {
  if (/^(?:authenveloped|enveloped|encrypted)/i.test(part.media.params.get("smime-type") ?? ""))
    state.encrypted = "smime";
  else state.limited.add("S/MIME content that cannot be read kept as an attachment");
}

/** A message with a detached signature (RFC 8551 section 3.5.3, RFC 3156 section 5). */
function findSignature(part: Part): Opened["signed"] {
  if (part.boundary === null) return null;
  if (part.media.type === "multipart/signed") {
    const types = [part.media.params.get("protocol") ?? "", ...part.children.slice(1).map(({ media }) => media.type)];
    if (types.some((type) => /pkcs7|x509/i.test(type))) return "smime";
    if (types.some((type) => /pgp/i.test(type))) return "pgp";
  }
  for (const child of part.children) {
    const found = findSignature(child);
    if (found) return found;
  }
  return null;
}

// RFC 3156 section 4. Exchange turns it into a multipart/mixed, which still has the control part.
function findEncryption(root: Part): Opened["encrypted"] {
  const declared = findMultipart(root, "multipart/encrypted");
  if (declared) return /pkcs7/i.test(declared.media.params.get("protocol") ?? "") ? "smime" : "pgp";
  return leaves(root).some(({ media }) => media.type === "application/pgp-encrypted") ? "pgp" : null;
}

function findMultipart(part: Part, type: string): Part | undefined {
  if (part.boundary === null) return undefined;
  if (part.media.type === type) return part;
  for (const child of part.children) {
    const found = findMultipart(child, type);
    if (found) return found;
  }
  return undefined;
}
