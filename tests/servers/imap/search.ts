/** Decides which messages a SEARCH finds (RFC 3501 section 6.4.4). */
import { gmailId } from "./fetch.ts";
import { headerEnd, parseHeaders } from "./mime.ts";
import { type Argument, Refusal, textOf } from "./parser.ts";
import { type Numbered, select } from "./sequence.ts";
import type { Message } from "./store.ts";

type Test = (one: Numbered) => boolean;
type Keys = { args: Argument[]; at: number; view: readonly Message[] };

const FLAGS: Record<string, string> = {
  SEEN: "\\Seen",
  ANSWERED: "\\Answered",
  DELETED: "\\Deleted",
  DRAFT: "\\Draft",
  FLAGGED: "\\Flagged",
};

const DAY = 24 * 60 * 60 * 1000;

const TESTS: Record<string, (keys: Keys) => Test> = {
  ALL: () => () => true,
  OLD: () => () => true,
  NEW: () => () => false,
  RECENT: () => () => false,
  UID: (keys) => inSet(keys, word(keys), true),
  NOT: (keys) => negated(nextTest(keys)),
  OR: (keys) => either(nextTest(keys), nextTest(keys)),
  KEYWORD: (keys) => flagged(word(keys)),
  UNKEYWORD: (keys) => negated(flagged(word(keys))),
  SINCE: (keys) => dated(keys, internalDate, (day, wanted) => day >= wanted),
  BEFORE: (keys) => dated(keys, internalDate, (day, wanted) => day < wanted),
  ON: (keys) => dated(keys, internalDate, (day, wanted) => day === wanted),
  SENTSINCE: (keys) => dated(keys, sentDate, (day, wanted) => day >= wanted),
  SENTBEFORE: (keys) => dated(keys, sentDate, (day, wanted) => day < wanted),
  SENTON: (keys) => dated(keys, sentDate, (day, wanted) => day === wanted),
  LARGER: (keys) => sized(Number(word(keys)), 1),
  SMALLER: (keys) => sized(Number(word(keys)), -1),
  MODSEQ: (keys) => changedSince(Number(word(keys))),
  HEADER: (keys) => headed(word(keys), word(keys)),
  FROM: (keys) => headed("from", word(keys)),
  TO: (keys) => headed("to", word(keys)),
  CC: (keys) => headed("cc", word(keys)),
  BCC: (keys) => headed("bcc", word(keys)),
  SUBJECT: (keys) => headed("subject", word(keys)),
  BODY: (keys) => containing(word(keys), true),
  TEXT: (keys) => containing(word(keys), false),
  EMAILID: (keys) => identified(word(keys), (message) => `M${message.emailId}`),
  "X-GM-MSGID": (keys) => identified(word(keys), gmailId),
};

/** The messages of `view` that match all search keys. */
export function search(view: readonly Message[], args: Argument[]): Numbered[] {
  const charset = args[0]?.kind === "atom" && args[0].text.toUpperCase() === "CHARSET";
  const keys: Keys = { args, at: charset ? 2 : 0, view };
  const tests = allTests(keys);
  const found: Numbered[] = [];
  for (const [index, message] of view.entries()) {
    const one = { number: index + 1, message };
    if (tests.every((test) => test(one))) found.push(one);
  }
  return found;
}

function allTests(keys: Keys): Test[] {
  const tests: Test[] = [];
  while (keys.at < keys.args.length) tests.push(nextTest(keys));
  return tests;
}

function nextTest(keys: Keys): Test {
  const argument = keys.args[keys.at++];
  if (argument?.kind === "list") {
    const inner = allTests({ args: argument.entries, at: 0, view: keys.view });
    return (one) => inner.every((test) => test(one));
  }
  const key = textOf(argument).toUpperCase();
  const flag = FLAGS[key] ?? FLAGS[key.replace(/^UN/, "")];
  if (flag) return FLAGS[key] ? flagged(flag) : negated(flagged(flag));
  const make = TESTS[key];
  if (make) return make(keys);
  if (/^[\d*:,]+$/.test(key)) return inSet(keys, key, false);
  throw new Refusal(`BAD Unknown search key ${key}`);
}

function word(keys: Keys): string {
  return textOf(keys.args[keys.at++]);
}

function negated(test: Test): Test {
  return (one) => !test(one);
}

function either(test: Test, other: Test): Test {
  return (one) => test(one) || other(one);
}

function inSet(keys: Keys, set: string, byUid: boolean): Test {
  const wanted = new Set(select(keys.view, set, byUid).map(({ message }) => message));
  return ({ message }) => wanted.has(message);
}

function flagged(flag: string): Test {
  const wanted = flag.toLowerCase();
  return ({ message }) => [...message.flags].some((one) => one.toLowerCase() === wanted);
}

function sized(size: number, direction: number): Test {
  return ({ message }) => (message.raw.length - size) * direction > 0;
}

function changedSince(modseq: number): Test {
  return ({ message }) => message.modseq >= modseq;
}

function identified(id: string, idOf: (message: Message) => string): Test {
  return ({ message }) => idOf(message) === id;
}

function dated(
  keys: Keys,
  dateOf: (message: Message) => number,
  matches: (day: number, wanted: number) => boolean,
): Test {
  const wanted = Math.floor(Date.parse(`${word(keys).replaceAll("-", " ")} UTC`) / DAY);
  if (Number.isNaN(wanted)) throw new Refusal("BAD Not a date");
  return ({ message }) => matches(Math.floor(dateOf(message) / DAY), wanted);
}

function internalDate(message: Message): number {
  return message.internalDate.getTime();
}

function sentDate(message: Message): number {
  return Date.parse(headersOf(message).get("date")?.[0] ?? "");
}

function headed(name: string, text: string): Test {
  const [field, wanted] = [name.toLowerCase(), Buffer.from(text).toString("latin1").toLowerCase()];
  return ({ message }) =>
    headersOf(message)
      .get(field)
      ?.some((value) => value.toLowerCase().includes(wanted)) ?? false;
}

function containing(text: string, bodyOnly: boolean): Test {
  const wanted = Buffer.from(text).toString("latin1").toLowerCase();
  return ({ message: { raw } }) => {
    const bytes = bodyOnly ? raw.subarray(headerEnd(raw, 0, raw.length)) : raw;
    return bytes.toString("latin1").toLowerCase().includes(wanted);
  };
}

function headersOf({ raw }: Message): Map<string, string[]> {
  return parseHeaders(raw.subarray(0, headerEnd(raw, 0, raw.length)));
}
