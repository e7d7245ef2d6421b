/**
 * One parsed message in the form that a CRM of the Creatio family reads: every member that it requires, in its
 * spelling.
 */
import { IMPORTANCE } from "../../../shared/contract/creatio.ts";
import type { ParsedMessage, NamedAddress } from "../../../shared/contract/received.ts";
import { linkContentIds } from "../../../shared/mail/content-id.ts";
import type { DeliverableMessage } from "../endpoint.ts";

type EmailAttachment = { Id: string; Name: string; IsInline: boolean; Base64Data: string };

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
  /** Milliseconds here; the request has .NET ticks. */
  SendDateTimeStamp: number;
  Importance: number;
  Headers: string[];
  Attachments: EmailAttachment[];
};

/**
 * The message for the CRM, with this Message-ID and its files as `base64` gives them. `omitted` are attachments that are left out besides those that the
 * parser left out. A note at the end of the body names all of them.
 */
export function toEmail(
  { parsed, ref }: DeliverableMessage,
  { messageId, omitted, base64 }: { messageId: string; omitted: string[]; base64: (file: Uint8Array) => string },
): Email {
  const html = parsed.html !== null;
  const ids = parsed.attachments.map(getContentId);
  const { body: text, linked } = linkContentIds(parsed.html ?? parsed.text ?? "", ids);
  const notes = [...describeOmissions(parsed), ...omitted];
  return {
    Id: messageId,
    MessageId: messageId,
    InReplyTo: parsed.inReplyTo ?? "",
    References: parsed.references.join(" "),
    Subject: stripNul(parsed.subject),
    Body: stripNul(notes.length > 0 ? appendNote(text, html, notes) : text),
    IsHtmlBody: html,
    Sender: formatSender(parsed),
    Recepients: parsed.to.flatMap(formatParty),
    CopyRecepients: parsed.cc.flatMap(formatParty),
    BlindCopyRecepients: parsed.bcc.flatMap(formatParty),
    SendDateTimeStamp: Date.parse(parsed.date ?? ref.receivedAt),
    Importance: importanceValue(parsed),
    Headers: parsed.headers.map(([name, value]) =>
      stripNul(`${titleCaseHeader(name)}=${value}`.replace(/[\r\n]+/g, " ")),
    ),
    Attachments: parsed.attachments.flatMap((file, index) => toAttachment(file, { index, linked, base64 })),
  };
}

/** Text without NUL, which older versions of the CRM cannot store. */
export function stripNul(text: string): string {
  return text.replaceAll("\0", "");
}

type Attachment = ParsedMessage["attachments"][number];

function toAttachment(
  file: Attachment,
  { index, linked, base64 }: { index: number; linked: ReadonlySet<string>; base64: (file: Uint8Array) => string },
): EmailAttachment[] {
  if (file.content === null) return [];
  const id = getContentId(file);
  const name = file.filename ?? `attachment-${index + 1}${EXTENSIONS[file.contentType] ?? ""}`;
  return [
    {
      Id: stripNul(id || `attachment-${index + 1}`),
      Name: stripNul(name),
      IsInline: linked.has(id),
      Base64Data: base64(file.content),
    },
  ];
}

function getContentId({ contentId }: Attachment): string {
  return stripNul(contentId ?? "").replace(/^<|>$/g, "");
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

function describeOmissions({ attachments, limited }: ParsedMessage): string[] {
  const files = attachments.filter((file) => file.content === null);
  return files.length > 0 ? [describeOmittedFiles(files)] : (limited ?? []);
}

/** The names and sizes of attachments, in words. */
export function describeOmittedFiles(files: ParsedMessage["attachments"]): string {
  const named = files.map(({ filename, size }) => `${filename ?? "unnamed"} (${Math.ceil(size / 1024)} KB)`);
  return `attachments left out: ${named.join(", ")}`;
}

function appendNote(body: string, html: boolean, notes: string[]): string {
  const note = `[Email Listener: ${notes.join("; ")}. The message in the mailbox is complete.]`;
  if (!html) return `${body}\n\n${note}`;
  const paragraph = `<p>${escapeHtml(note)}</p>`;
  const end = body.search(/<\/body\s*>/i);
  return end < 0 ? body + paragraph : body.slice(0, end) + paragraph + body.slice(end);
}

function escapeHtml(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}

/** Exactly one address, whatever the message says. */
function formatSender(parsed: ParsedMessage): string {
  const named = [parsed.from, parsed.sender, ...parsed.replyTo].flatMap((party) => (party ? formatParty(party) : []));
  return named[0] ?? "unknown@sender.invalid";
}

/** `Name <address>`. A name that looks like an address or a list of them is left out or changed. */
function formatParty({ name, address }: NamedAddress): string[] {
  const safeAddress = address.replace(/[<>\s\0]/g, "");
  if (safeAddress === "") return [];
  const safeName = name
    .replace(/["<>,;\p{Cc}]+/gu, " ")
    .replace(/\s+/g, " ")
    .trim();
  return [safeName === "" || safeName.includes("@") ? safeAddress : `${safeName} <${safeAddress}>`];
}

/** Importance (RFC 2156), or the older X-Priority and Priority. */
function importanceValue({ headers }: ParsedMessage): number {
  const headerValue = (name: string) =>
    headers
      .find(([headerName]) => headerName === name)?.[1]
      .trim()
      .toLowerCase() ?? "";
  const values = `${headerValue("importance")} ${headerValue("x-priority")} ${headerValue("priority")} ${headerValue("x-msmail-priority")}`;
  if (/\b(high|urgent|[12])\b/.test(values)) return IMPORTANCE.high;
  return /\b(low|non-urgent|[45])\b/.test(values) ? IMPORTANCE.low : IMPORTANCE.normal;
}

/** Header names with capital letters; the parser has them in lower case. */
function titleCaseHeader(name: string): string {
  const special: Record<string, string> = { "message-id": "Message-ID", "mime-version": "MIME-Version" };
  return (
    special[name] ?? name.replace(/(^|-)([a-z])/g, (_, dash: string, letter: string) => dash + letter.toUpperCase())
  );
}
