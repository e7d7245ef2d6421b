/** Messages about other messages: failed, delayed and successful deliveries, and complaints. */
import type { Bounce } from "../../../contract/received.ts";
import { decodeContent, decodeText } from "../content.ts";
import type { Field } from "../header.ts";
import type { LimitedReasons } from "../limits.ts";
import { leaves, type Part } from "../tree.ts";
import { holdsDeliveryStatus, isFailure, parseDeliveryStatus, type RecipientReport } from "./delivery-status.ts";
import { parseMessageIds } from "../values/message-ids.ts";
import { findAddresses } from "./addresses.ts";
import { parseComplaint } from "./feedback.ts";
import { readReturnedMessage } from "./returned.ts";
import { findReason } from "./reason.ts";
import { chooseStatus } from "./status.ts";
import { parseSesNotice } from "./ses.ts";
import { maySpeakForServer, parseWords, splitCopy } from "./words.ts";

/**
 * `bounce` has the recipients that failed or complained, `delay` those with any other action. Each is null without any.
 */
export type Notification = { bounce: Bounce | null; delay: Bounce | null };

/** The parsed message: its parts and header, its subject, and its text. */
export type NotificationSource = { root: Part; fields: Field[]; subject: string; text: string };

const DELIVERY_STATUS = /^message\/(global-)?delivery-status$/;
const FEEDBACK_REPORT = /^message\/feedback-report$/;
const MAX_REPORT_BYTES = 65_536;

/**
 * Parses a notification (RFC 3464, RFC 6533), a complaint (RFC 5965) or a notification in plain words. Both members are
 * null for anything else.
 */
export function readNotification(source: NotificationSource, limited: LimitedReasons): Notification {
  const parts = leaves(source.root);
  const contentOf = (type: RegExp) => {
    const part = parts.find(({ media }) => type.test(media.type));
    return part && decodeText(part, decodeContent(part).subarray(0, MAX_REPORT_BYTES));
  };
  const ses = parseSesNotice(source.text);
  if (ses) return toNotification(ses.reports, parseMessageIds(ses.messageId ?? undefined, limited)[0] ?? null);
  const [status, feedback] = [contentOf(DELIVERY_STATUS), contentOf(FEEDBACK_REPORT)];
  const { media } = source.root;
  const isReceipt = /disposition/i.test(media.params.get("report-type") ?? "");
  const isReport = (media.type === "multipart/report" && !isReceipt) || status !== undefined || feedback !== undefined;
  if (!isReport && !maySpeakForServer(source.fields)) return { bounce: null, delay: null };
  const { words, copy } = splitCopy(source.text);
  const returned = readReturnedMessage(parts, copy, limited);
  if (feedback !== undefined) return toNotification(parseComplaint(feedback, returned.recipients), returned.messageId);
  const hasCopy = returned.messageId !== null;
  const spoken = parseWords({ ...source, isReport, hasCopy }, words, returned.recipients);
  const stated = parseDeliveryStatus(status ?? (holdsDeliveryStatus(words) ? words : ""));
  const known = stated.filter(({ recipient, status: code }) => recipient !== null || code !== null);
  return toNotification(known.length > 0 ? completeReports(known, spoken) : spoken, returned.messageId);
}

// What the machine-readable part omits may be in the text.
function completeReports(stated: RecipientReport[], spoken: RecipientReport[]): RecipientReport[] {
  return stated.map((one) => {
    const alone = stated.length === 1 && spoken.length === 1 ? spoken[0] : undefined;
    const same = spoken.find(({ recipient }) => recipient?.toLowerCase() === one.recipient?.toLowerCase()) ?? alone;
    if (!same) return one;
    const recipient =
      one.recipient !== null && findAddresses(one.recipient).length > 0 ? one.recipient : same.recipient;
    if (one.diagnostic !== null && one.diagnostic.length > 5) return { ...one, recipient };
    const status = chooseStatus(one.status, same.diagnostic ?? "");
    const reason = isFailure(one.action) || one.action === "delayed" ? findReason(status, same.diagnostic) : null;
    return { ...one, recipient, status, diagnostic: same.diagnostic ?? one.diagnostic, reason };
  });
}

function toNotification(reports: RecipientReport[], originalMessageId: string | null): Notification {
  return {
    bounce: summarize(
      reports.filter(({ action }) => isFailure(action)),
      originalMessageId,
    ),
    delay: summarize(
      reports.filter(({ action }) => !isFailure(action)),
      originalMessageId,
    ),
  };
}

function summarize(recipients: RecipientReport[], originalMessageId: string | null): Bounce | null {
  const [first] = recipients;
  return first ? { ...first, originalMessageId, recipients } : null;
}
