/** Messages about other messages: what could not be delivered, in every form mail servers say it, and complaints about what was. */
import type { Bounce } from "../contract/received.ts";
import type { Limited } from "./mime/limits.ts";
import { contentOf, headerOf } from "./mime/content.ts";
import { type Field, text, valueOf } from "./mime/header.ts";
import { leaves, type Part } from "./mime/tree.ts";
import { messageIds } from "./mime-values.ts";

type Report = Bounce["recipients"][number];

const DELIVERY_STATUS = /^message\/(global-)?delivery-status$/;
const FEEDBACK = /^message\/feedback-report$/;
const RETURNED =
  /^(message\/rfc822|message\/global|text\/rfc822-headers|message\/rfc822-headers|message\/global-headers)$/;
/** Read of a text that may be a bounce in words. */
const WORDS_BYTES = 65536;

/** Reads a notification (RFC 3464, RFC 6533), a complaint (RFC 5965) or a bounce in words; null for anything else. */
export function bounceOf(bytes: Buffer, root: Part, fields: Field[], limited: Limited): Bounce | null {
  const parts = leaves(root);
  const status = parts.find((part) => DELIVERY_STATUS.test(part.media.type));
  const feedback = parts.find((part) => FEEDBACK.test(part.media.type));
  const reports = status
    ? statusReports(contentOf(bytes, status))
    : feedback
      ? complaints(contentOf(bytes, feedback))
      : [];
  if (!status && !feedback) return inWords(bytes, { parts, fields }, limited);
  const returned = parts.find((part) => RETURNED.test(part.media.type));
  const original = returned ? valueOf(headerOf(contentOf(bytes, returned)), "message-id") : undefined;
  return bounce(reports, messageIds(original, limited)[0]);
}

function bounce(reports: Report[], originalMessageId: string | undefined): Bounce {
  const chosen = reports.find(({ action }) => action?.startsWith("failed")) ?? reports[0];
  const none = { recipient: null, action: null, status: null, diagnostic: null };
  return { ...(chosen ?? none), originalMessageId: originalMessageId ?? null, recipients: reports };
}

function statusReports(content: Buffer): Report[] {
  return blocks(content)
    .filter((fields) => valueOf(fields, "action") !== undefined)
    .map((fields) => ({
      // What it was sent to comes first: the final one may be an alias behind it that nobody here knows.
      recipient: afterType(valueOf(fields, "original-recipient") ?? valueOf(fields, "final-recipient")),
      action: valueOf(fields, "action")?.toLowerCase() ?? null,
      status: valueOf(fields, "status") ?? null,
      diagnostic: afterType(valueOf(fields, "diagnostic-code")),
    }));
}

function complaints(content: Buffer): Report[] {
  const fields = blocks(content).flat();
  const type = valueOf(fields, "feedback-type") ?? "abuse";
  const recipients = fields.filter(({ name }) => name === "original-rcpt-to").map(({ value }) => bare(value));
  const diagnostic = `complaint: ${type}`;
  return (recipients.length > 0 ? recipients : [null]).map((recipient) => ({
    recipient,
    action: "complaint",
    status: null,
    diagnostic,
  }));
}

/** Who speaks when a mail server returns a message in words. */
const MAILER = /^\s*(?:"?[^"<]*"?\s*<)?(mailer-daemon|postmaster|mail[-_. ]?delivery|mdaemon)/i;
const REFUSED = /^(?:\s*<([^<>\s@]+@[^<>\s@]+)>:?\s*$|\s{0,4}<?([^<>\s@:]+@[^<>\s@:]+?)>?:?\s*$)/;
const WORDS =
  /(could not|couldn't|cannot|unable to|was not|wasn't|failed|undeliver|returned|permanent) ?(be )?(deliver|send|error|mail|message|to sender|able)?/i;

/** qmail ("Hi. This is the qmail-send program"), older Exim and others: the addresses stand on lines of their own, a reason below. */
function inWords(
  bytes: Buffer,
  { parts, fields }: { parts: Part[]; fields: Field[] },
  limited: Limited,
): Bounce | null {
  const failed = valueOf(fields, "x-failed-recipients");
  const nobody = /^\s*<\s*>/.test(valueOf(fields, "return-path") ?? "");
  if (failed === undefined && !(MAILER.test(valueOf(fields, "from") ?? "") || nobody)) return null;
  const letter = parts.find((part) => part.media.type === "text/plain");
  const content = letter ? text(contentOf(bytes, letter).subarray(0, WORDS_BYTES)) : "";
  if (failed === undefined && !WORDS.test(content)) return null;
  const split = content.search(/^-{2,}.*(copy of (your|the) message|original message|below this line).*$/im);
  const words = split < 0 ? content : content.slice(0, split);
  const returned = parts.find((part) => RETURNED.test(part.media.type));
  const head = returned ? text(contentOf(bytes, returned).subarray(0, WORDS_BYTES)) : content.slice(Math.max(split, 0));
  const original = messageIds(/^message-id:\s*(<[^<>\s]+>)/im.exec(head)?.[1], limited)[0];
  const named =
    failed === undefined
      ? []
      : failed
          .split(",")
          .map((one) => one.trim())
          .filter(Boolean);
  const reports = reasonsIn(words, named);
  return reports.length > 0 && (original !== undefined || failed !== undefined) ? bounce(reports, original) : null;
}

function reasonsIn(words: string, named: string[]): Report[] {
  const lines = words.split(/\r?\n/);
  const found = lines.flatMap((line, at) => {
    const [, bracketed, plain] = REFUSED.exec(line) ?? [];
    const recipient = bracketed ?? plain;
    return recipient === undefined ? [] : [{ recipient, diagnostic: reasonAt(lines, at + 1) }];
  });
  const all =
    named.length > 0
      ? named.map((recipient) => found.find((one) => one.recipient === recipient) ?? { recipient, diagnostic: null })
      : found;
  return all.map(({ recipient, diagnostic }) => {
    const status = /\b([245]\.\d{1,3}\.\d{1,3})\b/.exec(diagnostic ?? "")?.[1] ?? null;
    return { recipient, action: "failed", status, diagnostic };
  });
}

function reasonAt(lines: string[], from: number): string | null {
  const reason: string[] = [];
  for (const line of lines.slice(from, from + 8)) {
    if (line.trim() === "" || REFUSED.test(line)) break;
    reason.push(line.trim());
  }
  return reason.join(" ") || null;
}

// Blocks of fields, apart by empty lines; a notification about a thousand receivers is read no further than 64 KB.
function blocks(content: Buffer): Field[][] {
  const most = text(content.subarray(0, WORDS_BYTES));
  return most.split(/\r?\n\r?\n/).map((block) => headerOf(Buffer.from(`${block.replace(/^\s+/, "")}\r\n`)));
}

// `rfc822; nobody@example.com` and `smtp; 550 5.1.1 ...`: the type goes.
function afterType(value: string | undefined): string | null {
  if (value === undefined) return null;
  return bare(value.replace(/^[a-z0-9-]+\s*;\s*/i, "")) || null;
}

function bare(value: string): string {
  return value.trim().replace(/^<([^<>]*)>$/, "$1");
}
