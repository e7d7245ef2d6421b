/** Decides which leaves of a message are its body text, and which are files. */
import { namesFile, readDisposition } from "./files.ts";
import { fieldValue } from "./header.ts";
import { leaves, type Part } from "./tree.ts";

/** A piece of the body text in its forms. Parts of one multipart/alternative are one piece. */
export type Piece = { plain: Part[]; html: Part[] };
/** The multiparts around a part. */
type Place = { alternative: Piece | undefined; related: boolean };

const LETTER_TYPE = /^text\/(?:plain|html)$/;
/**
 * Text types that are data for programs. All others may be the body if there is no better part (RFC 2046 section
 * 4.1.4).
 */
const DATA_TYPE =
  /^text\/(?:calendar|(?:x-)?vcard|directory|csv|tab-separated-values|css|xml|(?:x-)?javascript|rfc822-headers|x-amp-html)/;

/**
 * Sorts the leaves. Texts without a name are the body, and so is every text in a multipart/alternative (RFC 8621
 * section 4.1.4). A text with a file name is a file, unless it comes first in a message that has no other text.
 */
export function findLetter(root: Part): { pieces: Piece[]; isFile: (part: Part) => boolean } {
  const pieces = new Set<Piece>();
  const letters = new Set<Part>();
  const all = leaves(root);
  const add = (part: Part, piece: Piece) => {
    pieces.add(piece);
    (part.media.type === "text/html" ? piece.html : piece.plain).push(part);
    letters.add(part);
  };
  const walk = (part: Part, place: Place) => {
    if (part.boundary === null) {
      if (isLetter(part, place, part === all[0])) add(part, place.alternative ?? newPiece());
      return;
    }
    const alternative = part.media.type === "multipart/alternative" ? newPiece() : place.alternative;
    const main = part.media.type === "multipart/related" ? mainOf(part) : undefined;
    for (const child of part.children) walk(child, { alternative, related: main !== undefined && child !== main });
  };
  walk(root, { alternative: undefined, related: false });
  const instead = letters.size === 0 ? findOther(all) : undefined;
  if (instead) add(instead, newPiece());
  return { pieces: [...pieces], isFile: (part) => !letters.has(part) };
}

const newPiece = (): Piece => ({ plain: [], html: [] });

function isLetter(part: Part, { alternative, related }: Place, first: boolean): boolean {
  if (!LETTER_TYPE.test(part.media.type) || readDisposition(part) === "attachment") return false;
  const { inDisposition, anywhere } = namesFile(part);
  if (alternative && !related) return true;
  if (related && refersTo(part)) return false;
  // Some mail programs give the body text a name.
  return !anywhere || (first && !inDisposition && part.media.declared);
}

/** The text of a message without body text: its first part if that is text, else a text of another kind. */
function findOther(all: Part[]): Part | undefined {
  const [first] = all;
  if (first && LETTER_TYPE.test(first.media.type) && isReadable(first)) return first;
  return all.find((part) => isReadable(part) && !DATA_TYPE.test(part.media.type) && !namesFile(part).anywhere);
}

function isReadable(part: Part): boolean {
  return part.media.declared && part.media.type.startsWith("text/") && readDisposition(part) !== "attachment";
}

/** True if other parts may refer to this one by its Content-ID or Content-Location. */
function refersTo({ fields }: Part): boolean {
  return fieldValue(fields, "content-id") !== undefined || fieldValue(fields, "content-location") !== undefined;
}

// RFC 2387: the part that `start` names, else the first.
function mainOf({ media, children }: Part): Part | undefined {
  const start = media.params.get("start")?.trim();
  const named = children.find(
    (child) => start !== undefined && start !== "" && fieldValue(child.fields, "content-id")?.trim() === start,
  );
  return named ?? children[0];
}
