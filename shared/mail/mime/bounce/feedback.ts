/** Feedback reports (RFC 5965): recipients who complained about a message. */
import { bareAddress } from "./addresses.ts";
import type { RecipientReport } from "./delivery-status.ts";

const MAX_REPORT_CHARACTERS = 65_536;
const MAX_REPORTS = 1000;
const FIELD = /^([a-z][a-z0-9-]{0,60})\s*:(.*)$/i;

/**
 * The recipients who reported a message as abuse. Reports of another type (auth-failure of DMARC, opt-out, fraud,
 * virus, not-spam) are no complaints and give an empty list. Some providers omit the recipient. Then it is the only
 * address that the message was sent to (`copiedRecipients`), if there is only one.
 */
export function parseComplaint(content: string, copiedRecipients: string[]): RecipientReport[] {
  const fields = readFields(content.slice(0, MAX_REPORT_CHARACTERS));
  const all = (name: string) => fields.filter((field) => field.name === name).map(({ value }) => value);
  const type = (all("feedback-type")[0] ?? "abuse").toLowerCase();
  if (type !== "abuse") return [];
  const stated = [...all("original-rcpt-to"), ...all("removal-recipient")].map((value) => bareAddress(value));
  const [only, another] = copiedRecipients;
  return (stated.length > 0 ? stated : [only !== undefined && another === undefined ? only : null])
    .slice(0, MAX_REPORTS)
    .map((recipient) => ({
      recipient,
      action: "complaint",
      status: null,
      diagnostic: `complaint: ${type}`,
      reason: "complaint",
    }));
}

function readFields(content: string): { name: string; value: string }[] {
  const unfolded = content.replace(/\r\n?/g, "\n").replace(/\n[ \t]/g, " ");
  return unfolded.split("\n").flatMap((line) => {
    const [, name, value] = FIELD.exec(line.slice(0, 4000)) ?? [];
    return name === undefined ? [] : [{ name: name.toLowerCase(), value: (value ?? "").trim() }];
  });
}
