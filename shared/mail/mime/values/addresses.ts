/**
 * Address lists (RFC 5322 section 3.4) as they occur: names with unquoted commas, groups, routes, addresses without
 * brackets or in a quoted string. An address is found wherever it is. Text in a name counts as the address only if
 * there is no other one.
 */
import type { NamedAddress } from "../../../contract/received.ts";
import { sanitizeText } from "../charset/sanitize.ts";
import type { Field } from "../header.ts";
import { MIME_LIMITS, type LimitedReasons } from "../limits.ts";
import { type Token, tokenize } from "./address-tokens.ts";
import { cleanName, readPlainAddresses } from "./plain-addresses.ts";
import { decodeWords } from "./words.ts";

/** Reads the addresses of a header. `decode` decodes encoded words in names, within the limits of the message. */
export type PartyReader = {
  /** The addresses of all fields with this name. Groups are flattened, and empty addresses left out. */
  all: (name: string) => NamedAddress[];
  /** The address of a field with one mailbox: the first entry with an address, else the first entry. */
  one: (name: string) => NamedAddress | null;
};

/** A reader for the address fields of one message, within its limits. */
export function partyReader(fields: Field[], decode: (value: string) => string, limited: LimitedReasons): PartyReader {
  const all = (name: string) => {
    const found: NamedAddress[] = [];
    for (const field of fields)
      if (field.name === name) found.push(...parseAddresses(limitAddresses(field.value, name, limited), decode));
    if (found.length > MIME_LIMITS.addresses) limited.add(tooMany(name));
    return found
      .slice(0, MIME_LIMITS.addresses)
      .map((party) => ({ name: sanitizeText(party.name), address: sanitizeText(party.address) }));
  };
  const one = (name: string) => {
    const found = all(name);
    return (
      found.find(({ address }) => address.includes("@")) ??
      found.find(({ address }) => address !== "") ??
      found[0] ??
      null
    );
  };
  return { all, one };
}

const tooMany = (name: string) => `addresses of ${name} after the first ${MIME_LIMITS.addresses} left out`;

// Cuts the value at a comma before parsing, because the work depends on its length.
function limitAddresses(value: string, name: string, limited: LimitedReasons): string {
  let end = 0;
  for (let commas = 0; commas <= MIME_LIMITS.addresses && end >= 0; commas++) end = value.indexOf(",", end + 1);
  if (end >= 0) limited.add(tooMany(name));
  return end < 0 ? value : value.slice(0, end);
}

/** Parses an address list. Name or address may be empty, but not both. */
export function parseAddresses(value: string, decode: (value: string) => string = decodeWords): NamedAddress[] {
  return readPlainAddresses(value, decode) ?? readList(value, decode);
}

function readList(value: string, decode: (value: string) => string): NamedAddress[] {
  return splitMailboxes(dropGroups(tokenize(value)))
    .flatMap((tokens) => readMailboxes(tokens, decode, true))
    .filter(({ name, address }) => name !== "" || address !== "");
}

/** Removes the names of groups, and the colons of `mailto:`. All other colons are text. */
function dropGroups(tokens: Token[]): Token[] {
  const result: Token[] = [];
  const lastSemicolon = tokens.findLastIndex(({ kind }) => kind === "semicolon");
  for (const [index, token] of tokens.entries()) {
    const last = result.at(-1);
    if (token.kind !== "colon") result.push(token);
    else if (last && isLabel(last.text)) result.pop();
    else if (lastSemicolon > index || index === tokens.length - 1 || isAddress(tokens[index + 1])) {
      while (result.length > 0 && !isBetween(result.at(-1))) result.pop();
    } else result.push({ ...token, kind: "text" });
  }
  return result;
}

const isLabel = (text: string) => /^[[(]?(?:mailto|smtp|e-?mail|to|from|b?cc|reply-to)$/i.test(text);
const isAddress = (token: Token | undefined) => token?.kind === "text" && ADDRESS.test(token.text);
const isBetween = (token: Token | undefined) => token?.kind === "comma" || token?.kind === "semicolon";

/**
 * The tokens of each mailbox. `Doe, John <john@x>` is one: text before a comma that is no address belongs to the name
 * after it.
 */
function splitMailboxes(tokens: Token[]): Token[][] {
  const mailboxes: Token[][] = [];
  let [current, pending]: [Token[], Token[][]] = [[], []];
  const close = (between: Token | undefined) => {
    const isName = current.length > 0 && !current.some(hasAddress);
    if (isName && between?.kind === "comma") pending.push(current);
    else {
      if (isNamed(current)) current = pending.splice(-MAX_NAME_PIECES).flatMap(withComma).concat(current);
      mailboxes.push(...pending, current);
      pending = [];
    }
    current = [];
  };
  for (const token of tokens) {
    if (isBetween(token)) close(token);
    else current.push(token);
  }
  close(undefined);
  return [...mailboxes, ...pending].filter((mailbox) => mailbox.length > 0);
}

/** The longest name with commas: `Doe, John, Dr. <john@x>`. More pieces are a list. */
const MAX_NAME_PIECES = 2;

const withComma = (piece: Token[]): Token[] => [...piece, { kind: "text", text: ",", glued: true }];

const hasAddress = ({ kind, text }: Token) => kind === "angle" || (kind === "text" && text.includes("@"));

// An address in brackets, or after a name.
const isNamed = (tokens: Token[]) =>
  tokens.some(({ kind }) => kind === "angle") ||
  (tokens.length > 1 && tokens.findIndex(hasAddress) === tokens.length - 1);

/** The mailboxes between two commas: usually one, several if commas are missing. */
function readMailboxes(tokens: Token[], decode: (value: string) => string, again: boolean): NamedAddress[] {
  const angles = tokens.filter(({ kind }) => kind === "angle").map(({ text }) => cleanAddress(text));
  if (!angles.some((address) => address !== "")) return readUnbracketed(tokens, decode, again);
  const found: { name: Token[]; address: string }[] = [];
  let name: Token[] = [];
  for (const token of tokens) {
    if (token.kind !== "angle") name.push(token);
    else {
      const address = cleanAddress(token.text);
      if (address === "") continue;
      found.push({ name, address });
      name = [];
    }
  }
  // Text after the last address is part of its name.
  found.at(-1)?.name.push(...name);
  return found.map((one) => toParty(one.name, one.address, decode));
}

function toParty(tokens: Token[], address: string, decode: (value: string) => string): NamedAddress {
  // A word in brackets that is no address, while the name contains one: `bob@x.test <bob>`.
  const better = address.includes("@")
    ? undefined
    : tokens.find(({ kind, text }) => kind === "text" && ADDRESS.test(text));
  if (better) return { name: "", address: cleanAddress(better.text) };
  const name = readName(tokens, decode);
  return { name: name === address && address.includes("@") ? "" : name, address };
}

const ADDRESS = /^(?:"[^"]*"|[^\s@"]+)@[^\s@]+$/;

/** A mailbox without brackets: its last word that is an address, and the rest as the name. */
function readUnbracketed(tokens: Token[], decode: (value: string) => string, again: boolean): NamedAddress[] {
  const words = joinWords(tokens.filter(({ kind }) => kind !== "angle"));
  const spaced = readSpaced(words);
  if (spaced !== undefined)
    return [
      toParty(
        words.filter(({ kind }) => kind === "comment"),
        spaced,
        decode,
      ),
    ];
  const addresses = words.filter(
    ({ kind, text }) =>
      kind === "text" && text.includes("@") && !text.includes("=?") && ADDRESS.test(cleanAddress(text)),
  );
  if (addresses.length > 1 && addresses.length === words.filter(({ kind }) => kind !== "comment").length)
    return addresses.map(({ text }) => ({ name: "", address: cleanAddress(text) }));
  const chosen = addresses.at(-1);
  if (chosen)
    return [
      toParty(
        words.filter((word) => word !== chosen),
        cleanAddress(chosen.text),
        decode,
      ),
    ];
  // The address may be in a quoted string or in encoded words, if there is no other.
  const name = readName(words, decode);
  const inner = again && name.includes("@") ? readInner(name) : [];
  if (inner.length > 0) return inner;
  const texts = words.filter(({ kind }) => kind !== "comment");
  const [only] = texts;
  // A single word is an address without a domain, unless empty brackets after it say that there is no address.
  const isLocal =
    !tokens.some(({ kind }) => kind === "angle") &&
    texts.length === 1 &&
    only?.kind === "text" &&
    /^[\w.+!-]+$/.test(only.text) &&
    !/^undisclosed/i.test(only.text);
  return [
    isLocal
      ? toParty(
          words.filter((word) => word !== only),
          only.text,
          decode,
        )
      : { name, address: "" },
  ];
}

// RFC 5322 section 4.4 allows blanks inside an address: `john . doe @ x . test`.
function readSpaced(words: Token[]): string | undefined {
  const texts = words.filter(({ kind }) => kind === "text").map(({ text }) => text);
  if (!texts.some((text) => text === "." || text === "@") || words.some(({ kind }) => kind === "quoted"))
    return undefined;
  const joined = texts.join(" ").replace(/ ?([.@]) ?/g, "$1");
  return ADDRESS.test(joined) ? joined : undefined;
}

function readInner(text: string): NamedAddress[] {
  const inner = splitMailboxes(tokenize(text)).flatMap((tokens) => readMailboxes(tokens, (value) => value, false));
  return inner.some(({ address }) => address.includes("@")) ? inner : [];
}

/**
 * The words of a mailbox. Adjacent tokens form one word. Comments inside an address, and blanks around its `@`, are
 * ignored.
 */
function joinWords(tokens: Token[]): Token[] {
  const words: Token[] = [];
  let [previous, last]: (Token | undefined)[] = [];
  for (const token of tokens) {
    const touches = (token.glued || previous?.kind === "comment") && previous !== undefined;
    const joins = last && token.kind === "text" && (token.text.startsWith("@") || last.text.endsWith("@"));
    if (last && joins && (touches || last.kind === "text")) {
      last.text = (last.kind === "quoted" ? `"${last.text}"` : last.text) + token.text;
      last.kind = "text";
    } else {
      const word = { ...token };
      words.push(word);
      if (word.kind !== "comment") last = word;
    }
    previous = token;
  }
  return words;
}

/** Removes what is around an address: routes (RFC 5322 section 4.4), `mailto:`, quotes, brackets, blanks, comments. */
function cleanAddress(text: string): string {
  const decoded = (text.includes("=?") ? decodeWords(text) : text)
    .replace(/\s+/g, " ")
    .trim()
    .replace(/^<[< ]*/, "");
  const direct = decoded.startsWith("@") ? decoded.slice(decoded.indexOf(":") + 1) : decoded;
  const plain = direct.replace(/\([^()]*\)/g, "").replace(/^[[ '"(]*(?:mailto|smtp):/i, "");
  const quoted = /^(["'])([^"'\s@]+@[^"'\s@]+)\1$/.exec(plain)?.[2];
  if (quoted !== undefined || plain.startsWith('"')) return quoted ?? plain.trim();
  if (/^undisclosed.{0,20}:/i.test(plain)) return "";
  const bare = trimSigns(plain).replace(/ ?([@.]) ?/g, "$1");
  return bare.includes(" ") ? (bare.split(" ").find((word) => word.includes("@")) ?? bare) : bare;
}

// Square brackets belong to an address only in a literal: `bob@[192.0.2.1]`.
function trimSigns(text: string): string {
  const [before, after] = ["[(' ", text.includes("@[") ? ">)'\" ;,." : ">])'\" ;,."];
  let [from, to] = [0, text.length];
  while (from < to && before.includes(text.charAt(from))) from++;
  while (to > from && after.includes(text.charAt(to - 1))) to--;
  return text.slice(from, to);
}

/** The name in these tokens: the words and quoted strings, else the comments. */
function readName(tokens: Token[], decode: (value: string) => string): string {
  const words = tokens.filter(({ kind }) => kind !== "comment");
  const used = words.length > 0 ? words : tokens;
  const text = used
    .map(({ text: piece, glued }, index) => (index > 0 && (!glued || words.length === 0) ? ` ${piece}` : piece))
    .join("");
  return cleanName(decode(text));
}
