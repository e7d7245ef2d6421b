/**
 * Message ids (RFC 5322 section 3.6.4) as they occur: in several fields, among words, without brackets, in encoded
 * words.
 */
import { MIME_LIMITS, type LimitedReasons } from "../limits.ts";
import type { Field } from "../header.ts";
import { decodeWords } from "./words.ts";

const BRACKETED = /<[^<>]+>/g;

/** The message ids in a value, each with its angle brackets and without white space, which folding may leave inside. */
export function parseMessageIds(value: string | undefined, limited: LimitedReasons): string[] {
  if (value === undefined || value === "") return [];
  const ids = [...new Set(findIds(value))];
  if (ids.length > MIME_LIMITS.references)
    limited.add(`message ids after the first ${MIME_LIMITS.references} left out`);
  return ids.slice(0, MIME_LIMITS.references);
}

/**
 * The id of the message itself, from the first field that has one. Text that is no valid id counts up to its first
 * blank.
 */
export function readMessageId(fields: Field[], limited: LimitedReasons): string | null {
  const values = fields.filter(({ name }) => name === "message-id").map(({ value }) => value);
  for (const value of values) {
    const [id] = parseMessageIds(value, limited);
    if (id !== undefined) return id;
  }
  const word = values.flatMap((value) => value.match(/[^\s<>]+/) ?? [])[0];
  return word === undefined ? null : `<${word}>`;
}

/** The ids of all References fields, in order, each once. */
export function readReferences(fields: Field[], limited: LimitedReasons): string[] {
  return parseMessageIds(joinValues(fields, "references"), limited);
}

/**
 * The id of the answered message. RFC 822 allowed words around it, among them a person's address. So an id that
 * References contains too is preferred, and after words the last one is the id.
 */
export function readInReplyTo(fields: Field[], references: string[], limited: LimitedReasons): string | null {
  const value = stripComments(joinValues(fields, "in-reply-to"));
  const ids = parseMessageIds(value, limited);
  const known = ids.find((id) => references.includes(id));
  const hasWords = /[^\s,;<>]/.test(value.slice(0, Math.max(0, value.indexOf("<"))));
  return known ?? (hasWords ? ids.at(-1) : ids[0]) ?? null;
}

function joinValues(fields: Field[], name: string): string {
  const values = fields.filter((field) => field.name === name);
  return values.length === 0 ? "" : values.map(({ value }) => value).join(" ");
}

function findIds(value: string): string[] {
  if (/^<[^<>\s]+>$/.test(value)) return [value];
  const text = decodeWords(value);
  const bracketed = text.match(BRACKETED);
  if (bracketed) return bracketed.map((id) => id.replace(/\s+/g, "")).filter((id) => id.length > 2);
  const words = stripComments(text)
    .split(/[\s,;<>"]+/)
    .filter((word) => word !== "");
  const bare = words.filter((word) => /^[^@]+@[^@]+$/.test(word));
  // A single word may be the id of an odd mail program. Among other words it is a word.
  const ids = bare.length > 0 ? bare : words.length === 1 ? words : [];
  return ids.map((id) => `<${id}>`);
}

function stripComments(value: string): string {
  return value.replace(/\([^()]*\)/g, " ");
}
