/** The Creatio dialect: one message in one ProcessFullEmail, in the form that Creatio and BPMSoft accept. */
import { urlWithLogin } from "../../../shared/contract/endpoint.ts";
import type { Mailbox } from "../../../shared/contract/mailbox.ts";
import { fingerprint } from "../../../shared/mail/fingerprint.ts";
import { MIME_LIMITS, limitedReasons } from "../../../shared/mail/mime/limits.ts";
import { readHeader, fieldValue } from "../../../shared/mail/mime/header.ts";
import { parseMessageIds } from "../../../shared/mail/mime/values/message-ids.ts";
import { callbackRequest } from "./callbacks.ts";
import { toEmail, describeOmittedFiles } from "./mail.ts";
import { IIS_MAX_BYTES, METHODS, TOO_LARGE } from "./names.ts";
import { bodyLength } from "../body.ts";
import { filesInJson } from "../json-body.ts";
import type { Encode, DeliverableMessage, PostOutcome, WireRequest } from "../endpoint.ts";

/** Milliseconds from the year 1, where .NET's clock begins, to 1970. */
const MS_BEFORE_1970 = 62_135_596_800_000n;
/** The last tick of the year 9999, where .NET's calendar ends. */
const MAX_TICKS = 3_155_378_975_999_999_999n;

/** Encodes a message for the CRM. The same message gives the same bytes in each attempt. */
export const encodeCreatio: Encode = (message) => encode(message, []);

async function encode(message: DeliverableMessage, omitted: string[]): Promise<WireRequest> {
  const { mailbox, raw, parsed } = message;
  const { user = "", timeZone = "" } = mailbox.deliver.creatio ?? {};
  const files = filesInJson(raw.byteLength);
  const messageId = parsed.messageId ?? syntheticMessageId(raw);
  const email = toEmail(message, { messageId, omitted, base64: files.base64 });
  const info = { Id: mailbox.id, MailboxId: mailbox.id, SysAdminUnit: user, TimeZoneId: timeZone };
  // Ticks are too large for the whole numbers of a double. Quotes inside a string are escaped, so this text can only
  // be the member itself.
  const stamp = `"SendDateTimeStamp":${email.SendDateTimeStamp}`;
  const body = await files.write({ Emails: [email], SubscriptionInfo: info }, (json) =>
    json.replace(stamp, () => `"SendDateTimeStamp":${toTicks(email.SendDateTimeStamp)}`),
  );
  return callbackRequest(urlWithLogin(mailbox.deliver), METHODS.mail, body);
}

/**
 * .NET ticks of a time in milliseconds since 1970: units of 100 ns since the year 1, in UTC, within the range of
 * DateTime.
 */
export function toTicks(ms: number): bigint {
  const count = (BigInt(Math.trunc(ms)) + MS_BEFORE_1970) * 10_000n;
  if (count < 0n) return 0n;
  return count > MAX_TICKS ? MAX_TICKS : count;
}

/**
 * The CRM skips mail without a Message-ID. So one is derived from the content; it is the same in every mailbox with
 * this message.
 */
export function syntheticMessageId(raw: Uint8Array): string {
  return `<${fingerprint(raw)}@no-message-id.invalid>`;
}

/**
 * The same message without its attachments, for a CRM that refuses it as too large. Undefined if that would not help,
 * or if the refusal has another reason.
 */
export async function smallerCreatioRequest(
  message: DeliverableMessage,
  request: WireRequest,
  outcome: PostOutcome,
): Promise<WireRequest | undefined> {
  const files = message.parsed.attachments.filter((file) => file.content !== null);
  if (outcome.kind === "accepted" || files.length === 0 || !isTooLarge(request, outcome)) return undefined;
  const parsed = { ...message.parsed, attachments: [] };
  return encode({ ...message, parsed }, [
    `${describeOmittedFiles(files)}, because the CRM refused the message as too large`,
  ]);
}

function isTooLarge(request: WireRequest, { status, words }: Extract<PostOutcome, { kind: "refused" }>): boolean {
  if (status === 413) return true;
  if (status === 404) return bodyLength(request.body) > IIS_MAX_BYTES;
  return (status === 400 || status === 500) && TOO_LARGE.test(words ?? "");
}

/** Equal for deliveries of the same message to the same CRM, from any mailbox. */
export function creatioLockKey(mailbox: Mailbox, raw: Uint8Array): string {
  const bytes = Buffer.from(raw.buffer, raw.byteOffset, raw.byteLength);
  const limits = { bytes: MIME_LIMITS.headerBytes, fields: MIME_LIMITS.fields, fieldBytes: MIME_LIMITS.fieldBytes };
  const { fields } = readHeader(bytes, { from: 0, to: bytes.length }, limits, limitedReasons());
  const id = parseMessageIds(fieldValue(fields, "message-id"), limitedReasons())[0];
  return `${new URL(mailbox.deliver.url).origin} ${id ?? syntheticMessageId(raw)}`;
}

/** Nobody has received a draft. */
export function creatioSkipReason(flags: string[]): string | undefined {
  return flags.some((flag) => flag.toLowerCase() === "\\draft") ? "a draft" : undefined;
}
