/** The Creatio dialect: one message in one ProcessFullEmail, as Creatio and BPMSoft take it. */
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import { fingerprint } from "../../../shared/mail/fingerprint.ts";
import { BOUNDS, limitedList } from "../../../shared/mail/mime/limits.ts";
import { readHeader, valueOf } from "../../../shared/mail/mime/header.ts";
import { messageIds } from "../../../shared/mail/mime-values.ts";
import { callback } from "./callbacks.ts";
import { emailOf, leftOut } from "./mail.ts";
import { IIS_MOST_BYTES, METHODS, TOO_LARGE } from "./names.ts";
import type { Encode, Letter, PostOutcome, WireRequest } from "../endpoint.ts";

/** Milliseconds from the year 1, where .NET's clock begins, to 1970. */
const TO_1970 = 62_135_596_800_000n;
/** The last tick of the year 9999, where .NET's calendar ends. */
const LAST_TICK = 3_155_378_975_999_999_999n;

/** Encodes a message for the CRM. The same message gives the same bytes in each attempt. */
export const encodeCreatio: Encode = (letter) => encoded(letter, []);

function encoded(letter: Letter, without: string[]): WireRequest {
  const { mailbox, raw, parsed } = letter;
  const { user = "", timeZone = "" } = mailbox.deliver.creatio ?? {};
  const email = emailOf(letter, parsed.messageId ?? madeUpId(raw), without);
  const info = { Id: mailbox.id, MailboxId: mailbox.id, SysAdminUnit: user, TimeZoneId: timeZone };
  const json = JSON.stringify({ Emails: [email], SubscriptionInfo: info });
  // Ticks are beyond the whole numbers of a double. Inside a string the quotes would be escaped, so this is the member itself.
  const stamp = `"SendDateTimeStamp":${email.SendDateTimeStamp}`;
  const body = json.replace(stamp, () => `"SendDateTimeStamp":${ticks(email.SendDateTimeStamp)}`);
  return callback(mailbox.deliver.url, METHODS.mail, body);
}

/** .NET ticks of a time in milliseconds since 1970: 100 ns since the year 1, in UTC, within what DateTime can hold. */
export function ticks(ms: number): bigint {
  const count = (BigInt(Math.trunc(ms)) + TO_1970) * 10_000n;
  if (count < 0n) return 0n;
  return count > LAST_TICK ? LAST_TICK : count;
}

/** The CRM skips mail without a Message-ID: its content makes one, the same in every mailbox that has the message. */
export function madeUpId(raw: Uint8Array): string {
  return `<${fingerprint(raw)}@no-message-id.invalid>`;
}

/**
 * The same message without its attachments, for a CRM that refuses it as too large; undefined when that would not help, or when the
 * refusal says something else.
 */
export function smallerCreatio(letter: Letter, request: WireRequest, outcome: PostOutcome): WireRequest | undefined {
  const files = letter.parsed.attachments.filter((file) => file.content !== null);
  if (outcome.kind === "accepted" || files.length === 0 || !tooLarge(request, outcome)) return undefined;
  const parsed = { ...letter.parsed, attachments: [] };
  return encoded({ ...letter, parsed }, [`${leftOut(files)}, because the CRM refused the message as too large`]);
}

function tooLarge(request: WireRequest, { status, reason }: Extract<PostOutcome, { kind: "refused" }>): boolean {
  if (status === 413) return true;
  if (status === 404) return Buffer.byteLength(request.body) > IIS_MOST_BYTES;
  return (status === 400 || status === 500) && TOO_LARGE.test(reason);
}

/** What deliveries of the same message to the same CRM have in common, whatever mailbox they are from. */
export function turnOfCreatio(mailbox: Mailbox, raw: Uint8Array): string {
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  const limits = { bytes: BOUNDS.headerBytes, fields: BOUNDS.fields, fieldBytes: BOUNDS.fieldBytes };
  const { fields } = readHeader(bytes, { from: 0, to: bytes.length }, limits, limitedList());
  const id = messageIds(valueOf(fields, "message-id"), limitedList())[0];
  return `${new URL(mailbox.deliver.url).origin} ${id ?? madeUpId(raw)}`;
}

/** Drafts are nobody's mail yet. */
export function refusesCreatio(flags: string[]): string | undefined {
  return flags.some((flag) => flag.toLowerCase() === "\\draft") ? "a draft" : undefined;
}
