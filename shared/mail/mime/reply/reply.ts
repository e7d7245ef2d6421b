/**
 * The text that a person wrote in a message, without quotations and signatures. `quoteHtml` converts HTML to text
 * first.
 */
import { detectPgp } from "../wrapped/pgp.ts";
import { dropSignatures, findOwnLines } from "./quotes.ts";

/** A longer message is a document. */
const MAX_CHARACTERS = 512 * 1024;
const MAX_LINES = 20_000;

/**
 * The sender's own text. Null if that is not sure: if there is no text, if only quotations are left, and if the text is
 * encrypted or too long.
 */
export function readReply(text: string): string | null {
  if (text.length > MAX_CHARACTERS) return null;
  const letter = detectPgp(text) === null ? text : openSigned(text);
  const lines = letter?.split("\n").map((line) => line.trimEnd()) ?? [];
  if (lines.length > MAX_LINES) return null;
  const reply = dropSignatures(keepOwn(lines)).join("\n").trim();
  if (reply === "") return null;
  return reply.includes("\n\n\n") ? reply.replace(/\n{3,}/g, "\n\n") : reply;
}

// An empty line stands for the quoted lines between two lines of the sender.
function keepOwn(lines: string[]): string[] {
  const own = findOwnLines(lines);
  if (!own.includes(false)) return lines;
  return lines.map((line, at) => (own[at] ? line : "")).filter((_, at) => own[at] || own[at - 1]);
}

// RFC 9580 section 7: headers, an empty line, the text with dashes escaped, the signature.
function openSigned(text: string): string | null {
  const begin = text.indexOf("-----BEGIN PGP SIGNED MESSAGE-----");
  const end = text.indexOf("-----BEGIN PGP SIGNATURE-----");
  if (begin < 0 || end < begin) return null;
  const body = text.slice(begin, end);
  const blank = /\r?\n[ \t]*\r?\n/.exec(body);
  return blank ? body.slice(blank.index + blank[0].length).replace(/^- /gm, "") : null;
}
