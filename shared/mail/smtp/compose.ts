/** Composes a message from its parts to RFC 822 bytes, once. Every attempt sends the same bytes. */
import { randomBytes } from "node:crypto";
import DKIM from "nodemailer/lib/dkim";
import MailComposer from "nodemailer/lib/mail-composer";
import type { Send } from "../../contract/mailbox.ts";
import type { OutgoingMessage } from "../../contract/outgoing.ts";
import type { NamedAddress } from "../../contract/received.ts";
import { clock } from "../../time.ts";
import { assembleMessage } from "./assemble.ts";
import { isAutomatic } from "./headers.ts";
import { takeInvitation } from "./invitation.ts";

/** The checked addresses of a message. */
export type Participants = {
  from: NamedAddress;
  to: NamedAddress[];
  cc: NamedAddress[];
  bcc: NamedAddress[];
  replyTo: NamedAddress[];
};

/** A message ready to send: bytes with CRLF line ends, its Message-ID, and the envelope's recipients, each once. */
export type ComposedMessage = {
  raw: Buffer;
  messageId: string;
  from: string;
  recipients: string[];
  automatic: boolean;
};

/** Composes the message. It cannot read files or URLs, and it writes no Bcc. */
export async function composeMessage(
  message: OutgoingMessage,
  participants: Participants,
  date: Date,
): Promise<ComposedMessage> {
  const { from, to, cc, bcc, replyTo } = participants;
  const messageId = message.messageId ?? newMessageId(from.address);
  const automatic = isAutomatic(message.headers);
  const { invitation, files } = takeInvitation(message.attachments);
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
    text: message.text === undefined ? undefined : toCrlf(message.text),
    html: message.html === undefined ? undefined : toCrlf(message.html),
    attachments: files.map(toAttachment),
    ...(invitation && { icalEvent: invitation }),
    headers: [...headerLines(message, automatic)],
    disableFileAccess: true,
    disableUrlAccess: true,
    newline: "win",
  });
  const raw = await assembleMessage(composer.compile());
  return { raw, messageId, from: from.address, recipients: uniqueAddresses([...to, ...cc, ...bcc]), automatic };
}

/** Signs the message (RFC 6376, relaxed/relaxed). Without a key it returns the message unchanged. */
export async function signWithDkim(raw: Buffer, dkim: Send["dkim"]): Promise<Buffer> {
  if (!dkim) return raw;
  const { domain, selector, privateKey } = dkim;
  const signer = new DKIM({ domainName: domain, keySelector: selector, privateKey: privateKey.reveal() });
  const chunks: Buffer[] = [];
  for await (const chunk of signer.sign(raw)) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
}

/** A Message-ID (RFC 5322 section 3.6.4) in the sender's own domain. */
export function newMessageId(address: string): string {
  const domain = address.slice(address.lastIndexOf("@") + 1);
  return `<${newOrderedId()}@${domain}>`;
}

/**
 * A unique name: the millisecond, then 80 random bits (as a UUID of version 7, RFC 9562, in hex). Names from about the
 * same time are neighbours in every index.
 */
export function newOrderedId(): string {
  return clock.now().toString(16).padStart(12, "0") + randomBytes(10).toString("hex");
}

/** Each address once, ignoring case. */
export function uniqueAddresses(list: readonly Pick<NamedAddress, "address">[]): string[] {
  const byLowerCase = new Map<string, string>();
  for (const { address } of list)
    if (!byLowerCase.has(address.toLowerCase())) byLowerCase.set(address.toLowerCase(), address);
  return [...byLowerCase.values()];
}

type AttachmentInput = OutgoingMessage["attachments"][number];

function toAttachment({ filename, contentType, contentId, disposition, content }: AttachmentInput) {
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
  const hasSuppressHeader = Object.keys(headers).some((name) => name.toLowerCase() === "x-auto-response-suppress");
  // Exchange and Outlook do not know RFC 3834. They look for this header.
  if (automatic && !hasSuppressHeader) yield { key: "X-Auto-Response-Suppress", value: "All" };
}

function toCrlf(text: string): string {
  return text.toWellFormed().replace(/\r\n|\r|\n/g, "\r\n");
}
