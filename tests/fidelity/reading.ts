/** What the product and its peers read of a message, in one shape, so that it can be compared field by field. */
import { createInterface } from "node:readline";
import { spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { type AddressObject, simpleParser } from "mailparser";
import { parseMessage } from "../../shared/mail/mime/message.ts";

/** Each field as a text; an empty one was not found. */
export type Reading = Record<Field, string>;
export type Reader = { name: string; read: (path: string) => Promise<Reading | undefined>; close: () => void };

export const FIELDS = [
  "subject",
  "from name",
  "from address",
  "to",
  "cc",
  "date",
  "message id",
  "text",
  "html",
  "files",
  "file names",
  "file sizes",
] as const;
export type Field = (typeof FIELDS)[number];

type Person = { name: string; address: string };
type Found = {
  subject: string;
  from: Person[];
  to: Person[];
  cc: Person[];
  date: number | null;
  messageId: string;
  text: string;
  html: string;
  files: { name: string | null; size: number }[];
};

/** White space is set by each reader in its own way, and no reader says more by it. */
const plain = (text: string) => text.replace(/[\s\u00A0]+/g, " ").trim();

function addressesOf(people: Person[]): string {
  return people
    .map(({ address }) => address.toLowerCase())
    .toSorted()
    .join(" ");
}

function toReading({ subject, from, to, cc, date, messageId, text, html, files }: Found): Reading {
  const sorted = files.toSorted((a, b) => a.size - b.size);
  return {
    subject: plain(subject),
    "from name": plain(from[0]?.name ?? ""),
    "from address": from[0]?.address.toLowerCase() ?? "",
    to: addressesOf(to),
    cc: addressesOf(cc),
    // Some readers have no fractions of a second.
    date: date === null ? "" : new Date(Math.floor(date / 1000) * 1000).toISOString(),
    "message id": messageId.replace(/[\s<>]+/g, ""),
    text: plain(text),
    html: plain(html),
    files: String(files.length),
    "file names": sorted
      .map(({ name }) => plain(name ?? ""))
      .toSorted()
      .join(" | "),
    "file sizes": sorted.map(({ size }) => size).join(" "),
  };
}

/** The product itself. */
export function productReader(): Reader {
  return { name: "product", read: readWithProduct, close: () => {} };
}

async function readWithProduct(path: string): Promise<Reading> {
  const parsed = await parseMessage(await readFile(path), { maxAttachmentBytes: 0 });
  return toReading({
    ...parsed,
    from: parsed.from ? [parsed.from] : [],
    date: parsed.date === null ? null : Date.parse(parsed.date),
    messageId: parsed.messageId ?? "",
    text: parsed.text ?? "",
    html: parsed.html ?? "",
    files: parsed.attachments.map(({ filename, size }) => ({ name: filename, size })),
  });
}

export function mailparserReader(): Reader {
  return { name: "mailparser", read: readWithMailparser, close: () => {} };
}

async function readWithMailparser(path: string): Promise<Reading> {
  const options = { skipHtmlToText: true, skipTextToHtml: true, skipImageLinks: true };
  const parsed = await simpleParser(await readFile(path), options);
  return toReading({
    subject: parsed.subject ?? "",
    from: peopleOf(parsed.from),
    to: peopleOf(parsed.to),
    cc: peopleOf(parsed.cc),
    date: parsed.date && !Number.isNaN(parsed.date.getTime()) ? parsed.date.getTime() : null,
    messageId: parsed.messageId ?? "",
    text: parsed.text ?? "",
    html: parsed.html || "",
    files: parsed.attachments.map(({ filename, size }) => ({ name: filename ?? null, size })),
  });
}

function peopleOf(field: AddressObject | AddressObject[] | undefined): Person[] {
  return (field === undefined ? [] : [field].flat()).flatMap(({ value }) =>
    value.flatMap((one) => one.group ?? [one]).map(({ name, address }) => ({ name, address: address ?? "" })),
  );
}

type FromPython = Omit<Found, "from" | "to" | "cc" | "files"> &
  Record<"from" | "to" | "cc", [string, string][]> & { files: [string | null, number][]; failed?: string };

/** Python's email package, in a process of its own. */
export function pythonReader(): Reader {
  const script = fileURLToPath(new URL("python.py", import.meta.url));
  const child = spawn("python3", [script], { stdio: ["pipe", "pipe", "inherit"] });
  const answers = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const read = async (path: string) => {
    child.stdin.write(`${path}\n`);
    const { value, done } = await answers.next();
    if (done) throw new Error("Python ended");
    const found = JSON.parse(value) as FromPython;
    if (found.failed !== undefined) return undefined;
    const [from, to, cc] = [found.from, found.to, found.cc].map((pairs) =>
      pairs.map(([name, address]) => ({ name, address })),
    );
    const files = found.files.map(([name, size]) => ({ name, size }));
    return toReading({ ...found, files, from: from ?? [], to: to ?? [], cc: cc ?? [] });
  };
  return { name: "Python", read, close: () => child.stdin.end() };
}
