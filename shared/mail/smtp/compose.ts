/** From the parts of a message to its RFC 822 bytes, made once: every attempt sends the same. */
import { randomBytes } from "node:crypto";
import DKIM from "nodemailer/lib/dkim";
import MailComposer from "nodemailer/lib/mail-composer";
import type { Send } from "../../contract/mailbox.ts";
import type { OutgoingMessage } from "../../contract/outgoing.ts";
import type { Party } from "../../contract/received.ts";
import { assembled } from "./assemble.ts";
import { isAutomatic } from "./headers.ts";

/** The people of a message, checked. */
export type People = { from: Party; to: Party[]; cc: Party[]; bcc: Party[]; replyTo: Party[] };

/** A message ready to be sent: bytes with CRLF line ends, its Message-ID, and whom the envelope names, each once. */
export type Composed = { raw: Buffer; messageId: string; from: string; recipients: string[]; automatic: boolean };

/** Composes the message. Nothing in it can be read from a file or fetched, and Bcc is not part of it. */
export async function compose(message: OutgoingMessage, people: People, date: Date): Promise<Composed> {
  const { from, to, cc, bcc, replyTo } = people;
  const messageId = message.messageId ?? newMessageId(from.address);
  const automatic = isAutomatic(message.headers);
  const composer = new MailComposer({
    from,
    to,
    cc,
    replyTo,
    subject: message.subject?.toWellFormed(),
    messageId,
    inReplyTo: message.inReplyTo,
    references: message.references,
    date,
    text: message.text === undefined ? undefined : crlf(message.text),
    html: message.html === undefined ? undefined : crlf(message.html),
    attachments: message.attachments.map(attached),
    headers: [...headerLines(message, automatic)],
    disableFileAccess: true,
    disableUrlAccess: true,
    newline: "win",
  });
  const raw = await assembled(composer.compile());
  return { raw, messageId, from: from.address, recipients: unique([...to, ...cc, ...bcc]), automatic };
}

/** Signs the message (RFC 6376, relaxed/relaxed); without a key it is left as it is. */
export async function signed(raw: Buffer, dkim: Send["dkim"]): Promise<Buffer> {
  if (!dkim) return raw;
  const { domain, selector, privateKey } = dkim;
  const signer = new DKIM({ domainName: domain, keySelector: selector, privateKey: privateKey.reveal() });
  const chunks: Buffer[] = [];
  for await (const chunk of signer.sign(raw)) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** A Message-ID (RFC 5322 section 3.6.4) under the sender's own domain. */
export function newMessageId(address: string): string {
  const domain = address.slice(address.lastIndexOf("@") + 1);
  return `<${orderedId()}@${domain}>`;
}

/**
 * A name nobody else has: the millisecond, then 80 random bits (as a UUID of version 7, RFC 9562, in hex). What was made at about the
 * same time lies together in every index.
 */
export function orderedId(): string {
  return Date.now().toString(16).padStart(12, "0") + randomBytes(10).toString("hex");
}

/** Each address once, whatever the case of its letters. */
export function unique(list: readonly Pick<Party, "address">[]): string[] {
  const found = new Map<string, string>();
  for (const { address } of list) if (!found.has(address.toLowerCase())) found.set(address.toLowerCase(), address);
  return [...found.values()];
}

type File = OutgoingMessage["attachments"][number];

function attached({ filename, contentType, contentId, disposition, content }: File) {
  return {
    filename: filename?.toWellFormed() ?? false,
    content: Buffer.from(content, "base64"),
    contentType: contentType ?? (filename === undefined ? "application/octet-stream" : undefined),
    ...(contentId !== undefined && { cid: contentId }),
    ...(disposition !== undefined && { contentDisposition: disposition }),
  } as const;
}

const IMPORTANCE = {
  high: [
    ["X-Priority", "1 (Highest)"],
    ["Importance", "High"],
  ],
  normal: [],
  low: [
    ["X-Priority", "5 (Lowest)"],
    ["Importance", "Low"],
  ],
} as const;

function* headerLines({ headers, importance }: OutgoingMessage, automatic: boolean) {
  for (const [key, value] of IMPORTANCE[importance ?? "normal"]) yield { key, value };
  for (const [key, values] of Object.entries(headers)) {
    for (const value of [values].flat()) yield { key, value: value.toWellFormed() };
  }
  const asks = Object.keys(headers).some((name) => name.toLowerCase() === "x-auto-response-suppress");
  // Exchange and Outlook do not know RFC 3834 and look for this instead.
  if (automatic && !asks) yield { key: "X-Auto-Response-Suppress", value: "All" };
}

function crlf(text: string): string {
  return text.toWellFormed().replace(/\r\n|\r|\n/g, "\r\n");
}
