/** The name of a file in a message and its disposition, from all the places where mail programs write them. */
import { isUtf8 } from "node:buffer";
import { sanitizeText } from "./charset/sanitize.ts";
import { fieldValue, readNestedHeader } from "./header.ts";
import type { Part } from "./tree.ts";
import { uuencodedName } from "./uuencode.ts";
import { decodePercent } from "./values/parameters.ts";
import { decodeWords } from "./values/words.ts";

export type Disposition = "attachment" | "inline" | null;

const MAX_NAME = 255;

/**
 * The disposition of a part; null if it has none. An unknown word means attachment (RFC 2183 section 2.8). But a text
 * without a name does not become a file because of an unknown word.
 */
export function readDisposition(part: Part): Disposition {
  const { value } = part.disposition;
  if (value === "") return null;
  if (value.startsWith("in")) return "inline";
  const isText = part.media.type.startsWith("text/") && !value.startsWith("at") && !namesFile(part).anywhere;
  return isText ? null : "attachment";
}

/**
 * Whether the part names a file: in its disposition, or anywhere. Mail programs may also put a name into the type of
 * the body text.
 */
export function namesFile(part: Part): { inDisposition: boolean; anywhere: boolean } {
  const inDisposition = nameIn(part.disposition.params) !== undefined;
  return { inDisposition, anywhere: inDisposition || nameIn(part.media.params) !== undefined };
}

/**
 * The name of a file: from the disposition, else the type, else the content. It is only the last component of a path,
 * without control characters. Null if there is none. An attached message is named by its subject, if `decoded` has its
 * content.
 */
export function readFilename(part: Part, decoded?: Buffer): string | null {
  for (const name of [nameIn(part.disposition.params), nameIn(part.media.params)]) {
    const clean = name === undefined ? "" : cleanName(name);
    if (clean !== "") return clean;
  }
  const encoding = fieldValue(part.fields, "content-transfer-encoding") ?? "";
  const inner = /^\s*(?:x-)?uu/i.test(encoding) ? uuencodedName(part.source.subarray(part.from, part.to)) : undefined;
  if (inner !== undefined && cleanName(inner) !== "") return cleanName(inner);
  return decoded && /^message\/(?:rfc822|global)$/.test(part.media.type) ? nestedFilename(decoded) : null;
}

/** A name, decoded and cleaned for a file system. Empty if nothing is left. */
export function cleanName(name: string): string {
  const decoded = decodePercentName(decodeWords(name.replace(/[\r\n]+/g, "")));
  const component =
    sanitizeText(decoded)
      .split(/[/\\]+/)
      .findLast((one) => one.trim() !== "") ?? "";
  const clean = component.replace(/[\p{Cc}\p{Zl}\p{Zp}]+/gu, " ").trim();
  return /^\.{1,2}$/.test(clean) ? "" : clean.slice(0, MAX_NAME).toWellFormed();
}

// Some mail programs percent-encode names. A percent sign that is part of the name stays.
function decodePercentName(name: string): string {
  if (!/%(?:[89A-F][0-9A-F]|20)/i.test(name) || /%(?![0-9A-Fa-f]{2})/.test(name)) return name;
  const bytes = decodePercent(name);
  return isUtf8(bytes) ? bytes.toString("utf8") : name;
}

function nameIn(params: ReadonlyMap<string, string>): string | undefined {
  return [params.get("filename"), params.get("name")].find((name) => name !== undefined && name.trim() !== "");
}

function nestedFilename(decoded: Buffer): string {
  const subject = decodeWords(fieldValue(readNestedHeader(decoded), "subject") ?? "").trim();
  const safe = subject.replace(/[\p{Cc}/\\:*?"<>|\s]+/gu, " ").trim();
  return `${safe.slice(0, 120).toWellFormed() || "message"}.eml`;
}
