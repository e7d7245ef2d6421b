/** A fast path for address lists without anything odd, which most are. All others take the way of addresses.ts. */
import type { NamedAddress } from "../../../contract/received.ts";

/** What is between commas outside quotes, or an odd sign, which is no address. */
const PIECE = /(?:[^"\\,]+|"[^"\\]*")+|[^,]/g;
const ADDRESS = /^[^\s<>()[\]"'\\,;:@=]+@[^\s<>()[\]"'\\,;:@=]+$/;
const ENCODED_WORDS = /^(?:=\?[^?\s]{1,60}\?[bq]\?[^?\s]{0,400}\?=\s{0,9})+$/i;

/** The addresses of a list, each with or without a name. Undefined if there is anything else in it. */
export function readPlainAddresses(value: string, decode: (value: string) => string): NamedAddress[] | undefined {
  const found: NamedAddress[] = [];
  for (const piece of value.match(PIECE) ?? []) {
    const plain = readPlain(piece.trim(), decode);
    if (!plain) return undefined;
    found.push(plain);
  }
  return found;
}

function readPlain(text: string, decode: (value: string) => string): NamedAddress | undefined {
  const open = text.endsWith(">") ? text.lastIndexOf("<") : -1;
  const address = open < 0 ? text : text.slice(open + 1, -1);
  if (!ADDRESS.test(address)) return undefined;
  const before = open < 0 ? "" : text.slice(0, open).trim();
  if (before.startsWith("=?") && ENCODED_WORDS.test(before)) return { name: cleanName(decode(before)), address };
  const name = before.length > 1 && before.startsWith('"') && before.endsWith('"') ? before.slice(1, -1) : before;
  return /[<>()[\]"\\;:@=]|^'|'$/.test(name) ? undefined : { name: cleanName(name), address };
}

/** A name with single blanks, and without quotes around it. */
export function cleanName(name: string): string {
  const plain = name.replace(/\s{2,}|[^\S ]/g, " ").trim();
  return plain.replace(/^(['"])(.*)\1$/s, "$2").trim();
}
