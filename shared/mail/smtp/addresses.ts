/**
 * Addresses to send to. One parser reads them in a strict form, so that no server on the way can read another recipient
 * out of one.
 */
import { domainToASCII } from "node:url";
import addressparser from "nodemailer/lib/addressparser";
import type { AddressInput } from "../../contract/outgoing.ts";
import { type FieldError, Problem } from "../../contract/problem.ts";
import { quoteWords } from "../../evidence/evidence.ts";
import type { NamedAddress } from "../../contract/received.ts";

/** RFC 5322 section 3.2.3 (atext and dots), with all visible characters beyond ASCII that RFC 6532 adds. */
const LOCAL = /^(?:[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]|(?=[^\0-\x7f])[^\p{C}\p{Z}])+$/u;
/**
 * Dots that only a quoted string may have: at its start or end, or next to each other. Mailboxes of some providers have
 * them.
 */
const NEEDS_QUOTES = /^\.|\.\.|\.$/;
const DOMAIN =
  /^(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*$/;
const LOCAL_BYTES = 64;

/**
 * The address in its form on the wire: the domain in ASCII and lower case, the local part as it is, in quotes if its
 * dots need them. Undefined for anything but one plain mailbox: no blanks or specials in a quoted local part, no domain
 * literal, no route, no group. RFC 5321 section 4.1.2 allows more, but no mailbox needs it, and attackers have used
 * such forms to reach other recipients.
 */
export function normalizeAddress(text: string): string | undefined {
  const at = text.lastIndexOf("@");
  const local = text.slice(0, Math.max(at, 0)).replace(/^"(.*)"$/, "$1");
  if (!LOCAL.test(local) || Buffer.byteLength(local) > LOCAL_BYTES) return undefined;
  const domain = domainToASCII(text.slice(at + 1)).toLowerCase();
  if (!DOMAIN.test(domain) || /^\d+(\.\d+){3}$/.test(domain)) return undefined;
  return NEEDS_QUOTES.test(local) ? `"${local}"@${domain}` : `${local}@${domain}`;
}

/** True for an address that needs SMTPUTF8 (RFC 6531). */
export function needsUtf8(address: string): boolean {
  return /[^\0-\x7f]/.test(address);
}

/** True for two spellings of one mailbox, as far as other servers can tell. */
export function sameAddress(one: string, other: string): boolean {
  return fold(one) === fold(other);
}

function fold(address: string): string {
  return address.toLowerCase().replace(/^"(.*)"(?=@[^@]*$)/, "$1");
}

/**
 * Parses the addresses of one field. Each one that is not exactly one plain mailbox is added to `errors` under its
 * path.
 */
export function parseParties(list: readonly AddressInput[], path: string, errors: FieldError[]): NamedAddress[] {
  return list.flatMap((one, index) => {
    const party = parseParty(one);
    if (party) return [party];
    errors.push({
      path: list.length === 1 && path === "from" ? path : `${path}.${index}`,
      message: `must be one e-mail address: ${describeInput(one)}`,
    });
    return [];
  });
}

/** The input itself, at most 100 characters. */
function describeInput(one: AddressInput): string {
  const text = typeof one === "string" ? one : one.address;
  return text.length > 100 ? `${text.slice(0, 100)}...` : text || "(empty)";
}

function parseParty(one: AddressInput): NamedAddress | undefined {
  const input = typeof one === "string" ? parseAddress(one) : { name: one.name ?? "", address: one.address.trim() };
  const address = input && normalizeAddress(input.address);
  if (!input || !address) return undefined;
  // The composer's own parser must find the same mailbox.
  const [reparsed, ...more] = addressparser(`<${address}>`);
  const same = more.length === 0 && normalizeAddress(reparsed?.address ?? "") === address;
  return same ? { name: input.name.trim(), address } : undefined;
}

/** A name and an address in angle brackets, as people and programs write them. */
const NAMED = /^([^<>]*)<\s*([^<>\s]+)\s*>$/;
const QUOTED = /"(?:[^"\\]|\\.)*"/g;

/** The address in the text, and its name; undefined if the text could name another mailbox, or several. */
function parseAddress(text: string): NamedAddress | undefined {
  let end = text.length;
  while (end > 0 && /[;,\s]/.test(text.charAt(end - 1))) end--;
  const given = text.slice(0, end).trim();
  const [, named, address] = NAMED.exec(given) ?? [];
  if (named === undefined || address === undefined) return parseBareAddress(given);
  const unquoted = named.replaceAll(QUOTED, "");
  // An address before a comma is another recipient, not part of a name.
  if (/@[^@]*[,;]/.test(unquoted)) return undefined;
  return { name: unquoteName(named.trim()), address };
}

/** Removes the quotes if they are around the whole name. Other quotes belong to it. */
function unquoteName(name: string): string {
  const whole = /^"((?:[^"\\]|\\.)*)"$/.exec(name)?.[1];
  return whole === undefined ? name : whole.replaceAll(/\\(.)/g, "$1");
}

/** An address alone, or followed by a name in parentheses. */
const BARE = /^(?:mailto:)?("?[^\s<>,;:"()]+"?@[^\s<>,;:"()@]+)(?:\s+\(([^()<>@]*)\))?$/i;

function parseBareAddress(text: string): NamedAddress | undefined {
  const [, address, name = ""] = BARE.exec(text) ?? [];
  return address === undefined ? undefined : { name, address };
}

/**
 * The plain mailboxes in the value of an address header, with groups flattened. Throws `message` for one that is not
 * plain.
 */
export function parseAddressHeader(value: string): string[] {
  if (/<\s*@/.test(value)) throw toUnsendableProblem("a route");
  return addressparser(value, { flatten: true }).map(({ address }) => {
    const plain = normalizeAddress(address);
    if (plain) return plain;
    throw toUnsendableProblem(address.slice(0, 100));
  });
}

function toUnsendableProblem(what: string): Problem {
  return new Problem("message", "A header of the message has an address that the service cannot send to", {
    retry: "never",
    evidence: quoteWords(what, { secrets: [] }),
    errors: [{ path: "raw", message: "has an address that the service cannot send to" }],
  });
}
