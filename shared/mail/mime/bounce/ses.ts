/** Notifications that Amazon SES sends by mail through its topics: JSON in the text of the message. */
import * as v from "valibot";
import { bareAddress } from "./addresses.ts";
import { isFailure, type RecipientReport } from "./delivery-status.ts";
import { findReason } from "./reason.ts";
import { chooseStatus } from "./status.ts";

const MAX_JSON_CHARACTERS = 65_536;

const Recipients = v.array(
  v.object({
    emailAddress: v.string(),
    action: v.optional(v.string()),
    status: v.optional(v.string()),
    diagnosticCode: v.optional(v.string()),
  }),
);
const Mail = v.object({ commonHeaders: v.optional(v.object({ messageId: v.optional(v.string()) })) });
const Notice = v.variant("notificationType", [
  v.object({ notificationType: v.literal("Bounce"), bounce: v.object({ bouncedRecipients: Recipients }), mail: Mail }),
  v.object({
    notificationType: v.literal("Complaint"),
    complaint: v.object({ complainedRecipients: Recipients, complaintFeedbackType: v.nullish(v.string()) }),
    mail: Mail,
  }),
  v.object({
    notificationType: v.literal("Delivery"),
    delivery: v.object({ recipients: v.array(v.string()), smtpResponse: v.optional(v.string()) }),
    mail: Mail,
  }),
]);
type Notice = v.InferOutput<typeof Notice>;

/** The reports in an SES notification, and the Message-ID that it is about. Undefined for any other text. */
export function parseSesNotice(text: string): { reports: RecipientReport[]; messageId: string | null } | undefined {
  if (!/^\s{0,100}\{/.test(text)) return undefined;
  const json = text.slice(0, MAX_JSON_CHARACTERS).trim();
  if (!json.includes('"notificationType"')) return undefined;
  // A footer follows the object. Long lines may be broken with an exclamation mark on the way (RFC 5321 section
  // 4.5.3.1.6).
  const object = json.replaceAll(/!\r?\n /g, "").split(/\r?\n\r?\n--\r?\n/)[0] ?? "";
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), Notice), object);
  if (!parsed.success) return undefined;
  return { reports: toReports(parsed.output), messageId: parsed.output.mail.commonHeaders?.messageId ?? null };
}

function toReports(notice: Notice): RecipientReport[] {
  if (notice.notificationType === "Bounce") return notice.bounce.bouncedRecipients.map(toReport);
  if (notice.notificationType === "Delivery") {
    const diagnostic = notice.delivery.smtpResponse ?? null;
    return notice.delivery.recipients.map((recipient) => ({
      recipient,
      action: "delivered",
      status: chooseStatus(null, diagnostic ?? ""),
      diagnostic,
      reason: null,
    }));
  }
  const type = notice.complaint.complaintFeedbackType ?? "abuse";
  if (type !== "abuse") return [];
  return notice.complaint.complainedRecipients.map(({ emailAddress }) => ({
    recipient: bareAddress(emailAddress),
    action: "complaint",
    status: null,
    diagnostic: `complaint: ${type}`,
    reason: "complaint",
  }));
}

function toReport({
  emailAddress,
  action,
  status,
  diagnosticCode,
}: v.InferOutput<typeof Recipients>[number]): RecipientReport {
  const diagnostic = diagnosticCode?.replace(/^smtp;\s*/i, "") ?? null;
  const code = chooseStatus(status ?? null, diagnostic ?? "");
  const stated = (action ?? "failed").toLowerCase();
  const reason = isFailure(stated) || stated === "delayed" ? findReason(code, diagnostic) : null;
  return { recipient: bareAddress(emailAddress), action: stated, status: code, diagnostic, reason };
}
