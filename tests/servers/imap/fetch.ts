/** Answers the items of a FETCH command for one message (RFC 3501 section 6.4.5). */
import { bodyStructure, envelope } from "./envelope.ts";
import { headerEnd, parseHeaders, parsePart, type Part } from "./mime.ts";
import { type Argument, entriesOf, Refusal, textOf } from "./parser.ts";
import type { Message } from "./store.ts";

/** One item of an answer: what to write for a message, and whether it needs or marks the content. */
export type FetchItem = {
  /** Its upper-case name without a section. */
  name: string;
  /** Whether it reads the message's content: such items fail for rejected messages. */
  content: boolean;
  /** Whether it sets \Seen. */
  marks: boolean;
  write: (message: Message) => (string | Buffer)[];
};

const MACROS: Record<string, string[]> = {
  ALL: ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE"],
  FAST: ["FLAGS", "INTERNALDATE", "RFC822.SIZE"],
  FULL: ["FLAGS", "INTERNALDATE", "RFC822.SIZE", "ENVELOPE", "BODY"],
};

const SIMPLE: Record<string, (message: Message) => string> = {
  UID: (message) => `UID ${message.uid}`,
  FLAGS: (message) => `FLAGS (${[...message.flags].join(" ")})`,
  INTERNALDATE: (message) => `INTERNALDATE "${imapDate(message.internalDate)}"`,
  "RFC822.SIZE": (message) => `RFC822.SIZE ${message.raw.length}`,
  MODSEQ: (message) => `MODSEQ (${message.modseq})`,
  EMAILID: (message) => `EMAILID (M${message.emailId})`,
  THREADID: (message) => `THREADID (T${message.emailId})`,
  "X-GM-MSGID": (message) => `X-GM-MSGID ${gmailId(message)}`,
  "X-GM-THRID": (message) => `X-GM-THRID ${gmailId(message)}`,
  "X-GM-LABELS": () => "X-GM-LABELS ()",
};

const CONTENT: Record<string, (message: Message) => string> = {
  ENVELOPE: (message) =>
    `ENVELOPE ${envelope(parseHeaders(message.raw.subarray(0, headerEnd(message.raw, 0, message.raw.length))))}`,
  BODY: (message) => `BODY ${bodyStructure(parsePart(message.raw), false)}`,
  BODYSTRUCTURE: (message) => `BODYSTRUCTURE ${bodyStructure(parsePart(message.raw), true)}`,
};

const WHOLE: Record<string, string> = { RFC822: "", "RFC822.HEADER": "HEADER", "RFC822.TEXT": "TEXT" };

/** The items that the arguments of FETCH ask for; UID comes first when the command was UID FETCH. */
export function fetchItems(argument: Argument | undefined, byUid: boolean): FetchItem[] {
  const asked = entriesOf(argument).map((entry) => textOf(entry));
  const names = asked.flatMap((name) => MACROS[name.toUpperCase()] ?? [name]);
  if (byUid && !names.some((name) => name.toUpperCase() === "UID")) names.unshift("UID");
  return names.map(fetchItem);
}

/** Writes a date as IMAP does: "05-Jan-2026 09:00:00 +0000". */
export function imapDate(date: Date): string {
  const [, day, month, year, time] = /^\w+, (\d+) (\w+) (\d+) ([\d:]+)/.exec(date.toUTCString()) ?? [];
  return `${day}-${month}-${year} ${time} +0000`;
}

/** Gmail's message id: 64 bits, the same in every folder. */
export function gmailId(message: Message): string {
  return BigInt(`0x${message.emailId.slice(0, 15)}`).toString();
}

function fetchItem(name: string): FetchItem {
  const upper = name.toUpperCase();
  const simple = SIMPLE[upper];
  if (simple) return { name: upper, content: false, marks: false, write: (message) => [simple(message)] };
  const structure = CONTENT[upper];
  // Header bytes are kept as latin1 text, so they must be written as such.
  if (structure)
    return {
      name: upper,
      content: true,
      marks: false,
      write: (message) => [Buffer.from(structure(message), "latin1")],
    };
  const whole = WHOLE[upper];
  if (whole !== undefined) {
    const write = (message: Message): Buffer[] => literal(upper, section(message.raw, whole));
    return { name: upper, content: true, marks: upper !== "RFC822.HEADER", write };
  }
  const match = /^BODY(\.PEEK)?\[(.*)\](?:<(\d+)(?:\.(\d+))?>)?$/is.exec(name);
  if (!match) throw new Refusal(`BAD Unknown FETCH item ${name}`);
  const [, peek, path = "", offset, count] = match;
  const label = `BODY[${path.toUpperCase()}]${offset === undefined ? "" : `<${offset}>`}`;
  const write = (message: Message): Buffer[] => {
    const bytes = section(message.raw, path);
    const from = Number(offset ?? 0);
    return literal(label, bytes?.subarray(from, count === undefined ? undefined : from + Number(count)));
  };
  return { name: "BODY", content: true, marks: peek === undefined, write };
}

function literal(label: string, bytes: Buffer | undefined): Buffer[] {
  if (!bytes) return [Buffer.from(`${label} NIL`)];
  return [Buffer.from(`${label} {${bytes.length}}\r\n`), bytes];
}

function section(raw: Buffer, path: string): Buffer | undefined {
  if (path === "") return raw;
  const [, numbers = "", what = ""] = /^((?:\d+\.?)*)(.*)$/s.exec(path) ?? [];
  if (numbers === "")
    return textual(raw, { start: 0, bodyStart: headerEnd(raw, 0, raw.length), end: raw.length }, what);
  const part = partAt(parsePart(raw), numbers.split(".").filter(Boolean).map(Number));
  if (!part) return undefined;
  if (what === "") return raw.subarray(part.bodyStart, part.end);
  const inner = what.toUpperCase() === "MIME" ? part : (part.children[0] ?? part);
  const bounds = { start: inner.headerStart, bodyStart: inner.bodyStart, end: inner.end };
  return textual(raw, bounds, what.toUpperCase() === "MIME" ? "HEADER" : what);
}

function textual(raw: Buffer, at: { start: number; bodyStart: number; end: number }, what: string): Buffer | undefined {
  const header = raw.subarray(at.start, at.bodyStart);
  if (/^TEXT$/i.test(what)) return raw.subarray(at.bodyStart, at.end);
  if (/^HEADER$/i.test(what)) return header;
  const fields = /^HEADER\.FIELDS(\.NOT)? \(?(.*?)\)?$/is.exec(what);
  if (!fields) throw new Refusal(`BAD Unknown section ${what}`);
  const names = new Set((fields[2] ?? "").toLowerCase().replaceAll('"', "").split(/ +/));
  const wanted = header
    .toString("latin1")
    .split(/\r\n(?![ \t])/)
    .filter(
      (line) =>
        line !== "" &&
        names.has(
          line
            .slice(0, Math.max(line.indexOf(":"), 0))
            .trim()
            .toLowerCase(),
        ) !== Boolean(fields[1]),
    );
  return Buffer.from([...wanted, "", ""].slice(wanted.length > 0 ? 0 : 1).join("\r\n"), "latin1");
}

// Part 1 of a message that is no multipart is its body; numbers go through message/rfc822 into its message.
function partAt(part: Part, numbers: number[]): Part | undefined {
  const [first, ...rest] = numbers;
  if (first === undefined) return part;
  const nested = part.type === "message" ? part.children[0] : part;
  if (!nested) return undefined;
  if (nested.type !== "multipart")
    return first === 1
      ? partAt({ ...nested, children: nested.type === "message" ? nested.children : [] }, rest)
      : undefined;
  const child = nested.children[first - 1];
  return child && partAt(child, rest);
}
