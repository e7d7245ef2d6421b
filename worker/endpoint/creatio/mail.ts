/** One parsed message as a CRM of the Creatio family reads it: every member it requires, in its spelling. */
import { IMPORTANCE } from "../../../shared/contract/creatio.ts";
import type { ParsedMessage, Party } from "../../../shared/contract/received.ts";
import type { Letter } from "../endpoint.ts";

type FileOf = { Id: string; Name: string; IsInline: boolean; Base64Data: string };

/** The DTO `Email`. The CRM's reader is case-sensitive, and fails on null in the lists, Body and Sender. */
export type Email = {
  Id: string;
  MessageId: string;
  InReplyTo: string;
  References: string;
  Subject: string;
  Body: string;
  IsHtmlBody: boolean;
  Sender: string;
  Recepients: string[];
  CopyRecepients: string[];
  BlindCopyRecepients: string[];
  /** Milliseconds here; the wire has .NET ticks. */
  SendDateTimeStamp: number;
  Importance: number;
  Headers: string[];
  Attachments: FileOf[];
};

/**
 * The message for the CRM. `messageId` is the one it is known by. `without` names what is left out beyond what the parser left
 * out already; either is said in a note at the end of the body.
 */
export function emailOf({ parsed, ref }: Letter, messageId: string, without: string[]): Email {
  const html = parsed.html !== null;
  const text = parsed.html ?? parsed.text ?? "";
  const notes = [...missing(parsed), ...without];
  return {
    Id: messageId,
    MessageId: messageId,
    InReplyTo: parsed.inReplyTo ?? "",
    References: parsed.references.join(" "),
    Subject: plain(parsed.subject),
    Body: plain(notes.length > 0 ? noted(text, html, notes) : text),
    IsHtmlBody: html,
    Sender: sender(parsed),
    Recepients: parsed.to.flatMap(shown),
    CopyRecepients: parsed.cc.flatMap(shown),
    BlindCopyRecepients: parsed.bcc.flatMap(shown),
    SendDateTimeStamp: Date.parse(parsed.date ?? ref.receivedAt),
    Importance: importance(parsed),
    Headers: parsed.headers.map(([name, value]) => plain(`${titled(name)}=${value}`.replace(/[\r\n]+/g, " "))),
    Attachments: parsed.attachments.flatMap((file, index) => fileOf(file, index, text)),
  };
}

/** Text without NUL, which older versions of the CRM cannot store. */
export function plain(text: string): string {
  return text.replaceAll("\0", "");
}

function fileOf(file: ParsedMessage["attachments"][number], index: number, body: string): FileOf[] {
  if (file.content === null) return [];
  const id = (file.contentId ?? "").replace(/^<|>$/g, "");
  const name = file.filename ?? `attachment-${index + 1}${EXTENSIONS[file.contentType] ?? ""}`;
  return [
    {
      Id: plain(id || `attachment-${index + 1}`),
      Name: plain(name),
      IsInline: id !== "" && body.includes(`cid:${id}`),
      Base64Data: file.content,
    },
  ];
}

const EXTENSIONS: Record<string, string> = {
  "application/pdf": ".pdf",
  "image/gif": ".gif",
  "image/jpeg": ".jpg",
  "image/png": ".png",
  "message/rfc822": ".eml",
  "text/calendar": ".ics",
  "text/html": ".html",
  "text/plain": ".txt",
};

function missing({ attachments, limited }: ParsedMessage): string[] {
  const files = attachments.filter((file) => file.content === null);
  return files.length > 0 ? [leftOut(files)] : (limited ?? []);
}

/** Files in words: their names and sizes. */
export function leftOut(files: ParsedMessage["attachments"]): string {
  const named = files.map(({ filename, size }) => `${filename ?? "unnamed"} (${Math.ceil(size / 1024)} KB)`);
  return `attachments left out: ${named.join(", ")}`;
}

function noted(body: string, html: boolean, notes: string[]): string {
  const note = `[Email Listener: ${notes.join("; ")}. The message in the mailbox is complete.]`;
  if (!html) return `${body}\n\n${note}`;
  const paragraph = `<p>${escaped(note)}</p>`;
  const end = body.search(/<\/body\s*>/i);
  return end < 0 ? body + paragraph : body.slice(0, end) + paragraph + body.slice(end);
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Exactly one address, whatever the message says. */
function sender(parsed: ParsedMessage): string {
  const named = [parsed.from, parsed.sender, ...parsed.replyTo].flatMap((party) => (party ? shown(party) : []));
  return named[0] ?? "unknown@sender.invalid";
}

/** `Name <address>`; a name that might be read as an address or a list of them is left out or made harmless. */
function shown({ name, address }: Party): string[] {
  const at = address.replace(/[<>\s\0]/g, "");
  if (at === "") return [];
  const words = name
    .replace(/["<>,;\p{Cc}]+/gu, " ")
    .replace(/\s+/g, " ")
    .trim();
  return [words === "" || words.includes("@") ? at : `${words} <${at}>`];
}

/** Importance (RFC 2156), or its older relatives X-Priority and Priority. */
function importance({ headers }: ParsedMessage): number {
  const of = (name: string) =>
    headers
      .find(([known]) => known === name)?.[1]
      .trim()
      .toLowerCase() ?? "";
  const said = `${of("importance")} ${of("x-priority")} ${of("priority")} ${of("x-msmail-priority")}`;
  if (/\b(high|urgent|[12])\b/.test(said)) return IMPORTANCE.high;
  return /\b(low|non-urgent|[45])\b/.test(said) ? IMPORTANCE.low : IMPORTANCE.normal;
}

/** Header names as people write them; the parser has them in lower case. */
function titled(name: string): string {
  const special: Record<string, string> = { "message-id": "Message-ID", "mime-version": "MIME-Version" };
  return (
    special[name] ?? name.replace(/(^|-)([a-z])/g, (_, dash: string, letter: string) => dash + letter.toUpperCase())
  );
}
