/** Addresses to send to: read by one parser, held to a strict form, so that nobody on the way can read another recipient out of one. */
import { domainToASCII } from "node:url";
import addressparser from "nodemailer/lib/addressparser";
import type { Correspondent } from "../../contract/outgoing.ts";
import { type FieldError, Problem } from "../../contract/problem.ts";
import type { Party } from "../../contract/received.ts";

/** RFC 5322 section 3.2.3 (dot-atom), with everything beyond ASCII that RFC 6532 adds and that can be seen. */
const LOCAL = /^(?!\.)(?:[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]|\.(?!\.|$)|(?=[^\0-\x7f])[^\p{C}\p{Z}])+$/u;
const DOMAIN =
  /^(?=.{1,253}$)([A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*$/;
const LOCAL_BYTES = 64;

/**
 * The address in the form it goes onto the wire: the domain in ASCII and lower case, the local part as it is. Undefined for anything
 * but one plain mailbox: no quoted local part, no domain literal, no route, no group (RFC 5321 section 4.1.2 allows more; nobody's
 * mailbox needs it, and every oddity has been a way to another recipient).
 */
export function plainAddress(text: string): string | undefined {
  const at = text.lastIndexOf("@");
  const local = text.slice(0, Math.max(at, 0));
  if (!LOCAL.test(local) || Buffer.byteLength(local) > LOCAL_BYTES) return undefined;
  const domain = domainToASCII(text.slice(at + 1)).toLowerCase();
  return DOMAIN.test(domain) && !/^\d+(\.\d+){3}$/.test(domain) ? `${local}@${domain}` : undefined;
}

/** True for an address that needs SMTPUTF8 (RFC 6531). */
export function needsUtf8(address: string): boolean {
  return /[^\0-\x7f]/.test(address);
}

/** Two spellings of one mailbox, as far as anybody but its own server can tell. */
export function sameAddress(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}

/** Reads the correspondents of one field; every one that is not exactly one plain mailbox is added to `errors` under its path. */
export function parties(list: readonly Correspondent[], path: string, errors: FieldError[]): Party[] {
  return list.flatMap((one, index) => {
    const party = partyOf(one);
    if (party) return [party];
    errors.push({
      path: list.length === 1 && path === "from" ? path : `${path}.${index}`,
      message: "must be one e-mail address",
    });
    return [];
  });
}

function partyOf(one: Correspondent): Party | undefined {
  const given = typeof one === "string" ? parsed(one) : { name: one.name ?? "", address: one.address.trim() };
  const address = given && plainAddress(given.address);
  if (!given || !address) return undefined;
  // What the composer's own parser would make of it must be the same mailbox.
  const again = parsed(`<${address}>`);
  return again?.address === address ? { name: given.name.trim(), address } : undefined;
}

/** What no parser can read in two ways: one address of plain characters. */
const SIMPLE = /^[A-Za-z0-9._+-]+@[A-Za-z0-9.-]+$/;

function parsed(text: string): Party | undefined {
  const bare = text.startsWith("<") && text.endsWith(">") ? text.slice(1, -1) : text;
  if (SIMPLE.test(bare)) return { name: "", address: bare };
  const [first, ...more] = addressparser(text);
  if (!first || more.length > 0 || first.group) return undefined;
  // The parser reads past routes and comments; whoever else reads them may come to another mailbox.
  const { name, address } = first;
  const plainly = text.trim() === address || text.trim().endsWith(`<${address}>`);
  return plainly ? { name, address } : undefined;
}

/** The plain mailboxes in the value of an address header, groups flattened; throws `message` for one that is not. */
export function addressesIn(value: string): string[] {
  if (/<\s*@/.test(value)) throw unsendable("a route");
  return addressparser(value, { flatten: true }).map(({ address }) => {
    const plain = plainAddress(address);
    if (plain) return plain;
    throw unsendable(address.slice(0, 100));
  });
}

function unsendable(evidence: string): Problem {
  return new Problem("message", "A header of the message has an address that cannot be sent to", {
    retry: "never",
    evidence,
    errors: [{ path: "raw", message: "has an address that cannot be sent to" }],
  });
}
