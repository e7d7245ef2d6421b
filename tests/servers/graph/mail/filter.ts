/** The part of OData's $filter and $orderby that the fake Graph server understands over messages. */
import { badRequest } from "../answers.ts";
import type { Message } from "../store/store.ts";

type Value = string | number | boolean | undefined;
export type Test = (message: Message) => boolean;
export type Filter = { test: Test; properties: string[] };

const VALUES: Record<string, (one: Message) => Value> = {
  receivedDateTime: (one) => one.receivedAt.getTime(),
  createdDateTime: (one) => one.createdAt.getTime(),
  lastModifiedDateTime: (one) => one.modifiedAt.getTime(),
  sentDateTime: (one) => (one.head.sent ?? one.createdAt).getTime(),
  isRead: (one) => one.isRead,
  isDraft: (one) => one.isDraft,
  hasAttachments: (one) => one.head.hasAttachments || one.files.length > 0,
  subject: (one) => one.head.subject,
  internetMessageId: (one) => one.head.messageId,
  conversationId: (one) => one.conversationId,
  importance: (one) => one.head.importance.toLowerCase(),
  "from/emailAddress/address": (one) => one.head.from?.address,
  "from/emailAddress/name": (one) => one.head.from?.name,
  "flag/flagStatus": (one) => one.flag,
};

const COMPARE: Record<string, (a: Value, b: Value) => boolean> = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  ge: (a, b) => a !== undefined && b !== undefined && a >= b,
  gt: (a, b) => a !== undefined && b !== undefined && a > b,
  le: (a, b) => a !== undefined && b !== undefined && a <= b,
  lt: (a, b) => a !== undefined && b !== undefined && a < b,
};

const TEXT: Record<string, (text: string, part: string) => boolean> = {
  contains: (text, part) => text.includes(part),
  startswith: (text, part) => text.startsWith(part),
  endswith: (text, part) => text.endsWith(part),
};

function invalid(text: string): Error {
  return badRequest(`Invalid filter clause: ${text}`, "ErrorInvalidUrlQueryFilter");
}

/** The words of a filter that are still to be read, and the properties that were. */
type Reader = {
  properties: string[];
  peek(): string;
  next(): string;
  expect(word: string): void;
  /** An error that quotes the whole filter. */
  wrong(): Error;
};

function readerOf(text: string): Reader {
  const words = wordsOf(text);
  const reader: Reader = {
    properties: [],
    peek: () => words[0] ?? "",
    next() {
      const word = words.shift();
      if (word === undefined) throw invalid(text);
      return word;
    },
    expect(word) {
      if (reader.next().toLowerCase() !== word) throw invalid(text);
    },
    wrong: () => invalid(text),
  };
  return reader;
}

/** Reads a filter: comparisons with and, or, not and parentheses, text functions, and `any` over categories. */
export function readFilter(text: string): Filter {
  const reader = readerOf(text);
  const test = either(reader);
  if (reader.peek() !== "") throw invalid(text);
  return { test, properties: reader.properties };
}

function either(reader: Reader): Test {
  let test = both(reader);
  while (reader.peek().toLowerCase() === "or") {
    reader.next();
    const [left, right] = [test, both(reader)];
    test = (one) => left(one) || right(one);
  }
  return test;
}

function both(reader: Reader): Test {
  let test = single(reader);
  while (reader.peek().toLowerCase() === "and") {
    reader.next();
    const [left, right] = [test, single(reader)];
    test = (one) => left(one) && right(one);
  }
  return test;
}

function single(reader: Reader): Test {
  const word = reader.peek().toLowerCase();
  if (word === "(") {
    reader.next();
    const test = either(reader);
    reader.expect(")");
    return test;
  }
  if (word === "not") {
    reader.next();
    const test = single(reader);
    return (one) => !test(one);
  }
  if (word === "categories/any") return anyCategory(reader);
  if (word === "singlevalueextendedproperties/any") return anyExtended(reader);
  return TEXT[word] ? textual(reader) : comparison(reader);
}

function readProperty({ next, properties }: Reader): (one: Message) => Value {
  const name = next();
  const value = VALUES[name];
  if (!value) throw badRequest(`Could not find a property named '${name}' on type 'microsoft.graph.message'.`);
  properties.push(name);
  return value;
}

function textual(reader: Reader): Test {
  const holds = TEXT[reader.next().toLowerCase()] ?? (() => false);
  reader.expect("(");
  const value = readProperty(reader);
  reader.expect(",");
  const part = String(literal(reader.next())).toLowerCase();
  reader.expect(")");
  return (one) => holds(String(value(one) ?? "").toLowerCase(), part);
}

function comparison(reader: Reader): Test {
  const value = readProperty(reader);
  const compare = COMPARE[reader.next()];
  if (!compare) throw reader.wrong();
  const wanted = literal(reader.next());
  return (one) => compare(value(one), wanted);
}

/** categories/any(a:a eq 'Red') */
function anyCategory(reader: Reader): Test {
  const [wanted = ""] = lambda(reader, /^(\w+)$/);
  reader.properties.push("categories");
  return (one) => one.categories.includes(wanted);
}

/** singleValueExtendedProperties/any(p:p/id eq '...' and p/value eq '...') */
function anyExtended(reader: Reader): Test {
  const [id = "", value] = lambda(reader, /^(\w+\/(?:id|value))$/i);
  reader.properties.push("singleValueExtendedProperties");
  return (one) => (value === undefined ? one.extended.has(id) : one.extended.get(id) === value);
}

/** The literals that are compared inside of any(...). */
function lambda(reader: Reader, subject: RegExp): string[] {
  reader.next();
  reader.expect("(");
  reader.next();
  reader.expect(":");
  const found: string[] = [];
  for (let word = reader.next(); word !== ")"; word = reader.next()) {
    if (word === "and") continue;
    if (!subject.test(word)) throw reader.wrong();
    reader.expect("eq");
    found.push(String(literal(reader.next())));
  }
  return found;
}

function wordsOf(text: string): string[] {
  const pattern = /'(?:[^']|'')*'|[(),:]|(?<=\s|\(|^)\d{4}-[\dT:.Z+-]+|[\w/.+-]+|\s+/gy;
  const words: string[] = [];
  let at = 0;
  for (const match of text.matchAll(pattern)) {
    if (match[0].trim() !== "") words.push(match[0]);
    at = match.index + match[0].length;
  }
  if (at !== text.length) throw invalid(text);
  return words;
}

function literal(word: string): Value {
  if (word.startsWith("'")) return word.slice(1, -1).replaceAll("''", "'");
  if (word === "true" || word === "false") return word === "true";
  if (word === "null") return undefined;
  const time = Date.parse(word);
  if (/^\d{4}-\d\d-\d\d/.test(word) && !Number.isNaN(time)) return time;
  throw invalid(word);
}

export type Order = { property: string; descending: boolean }[];

export function readOrder(text: string): Order {
  return text.split(",").map((one) => {
    const [property = "", direction = "asc"] = one.trim().split(/\s+/);
    if (!VALUES[property])
      throw badRequest(`Could not find a property named '${property}' on type 'microsoft.graph.message'.`);
    return { property, descending: direction.toLowerCase() === "desc" };
  });
}

/** What is ordered by must stand first in the filter, in the same order. Throws 400. */
export function checkEfficient(filter: Filter | undefined, order: Order | undefined): void {
  if (!filter || !order) return;
  const first = [...new Set(filter.properties)].slice(0, order.length);
  if (order.every(({ property }, index) => first[index] === property)) return;
  throw badRequest("The restriction or sort order is too complex for this operation.", "InefficientFilter");
}

export function compareBy(order: Order): (a: Message, b: Message) => number {
  return (a, b) => {
    for (const { property, descending } of order) {
      const [left = "", right = ""] = [VALUES[property]?.(a), VALUES[property]?.(b)];
      if (left !== right) return (left < right ? -1 : 1) * (descending ? -1 : 1);
    }
    return 0;
  };
}
